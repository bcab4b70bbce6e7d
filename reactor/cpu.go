package reactor

import (
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// CPUFeatures names the processor and those of its features that the engine's choices depend on: checksums (SSE4.2,
// PCLMULQDQ, or ARM's CRC32), encryption (AES) and copying (AVX2, AVX-512).
func CPUFeatures() (name string, features []string) {
	for _, f := range []cpuid.FeatureID{cpuid.SSE42, cpuid.CLMUL, cpuid.VPCLMULQDQ, cpuid.AESNI, cpuid.VAES, cpuid.AVX2, cpuid.AVX512F, cpuid.CRC32, cpuid.AESARM, cpuid.PMULL} {
		if cpuid.CPU.Supports(f) {
			features = append(features, strings.ToLower(f.String()))
		}
	}
	return strings.TrimSpace(cpuid.CPU.BrandName), features
}
