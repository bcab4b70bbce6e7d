#include "textflag.h"

// func stackLimit() uintptr
//
// The current goroutine's g is at TLS, and in it stackguard0 after the two words of its stack (runtime/runtime2.go): where every function's
// first instructions look.
TEXT ·stackLimit(SB), NOSPLIT, $0-8
	MOVQ (TLS), AX
	MOVQ 16(AX), AX
	MOVQ AX, ret+0(FP)
	RET
