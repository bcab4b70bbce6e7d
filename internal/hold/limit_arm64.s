#include "textflag.h"

// func stackLimit() uintptr
//
// The current goroutine is in the register g, and in it stackguard0 after the two words of its stack (runtime/runtime2.go): where every function's
// first instructions look.
TEXT ·stackLimit(SB), NOSPLIT, $0-8
	MOVD 16(g), R0
	MOVD R0, ret+0(FP)
	RET
