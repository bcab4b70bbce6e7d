#include "textflag.h"

// Eight AES blocks are under way at once, X0 to X7: an AES round takes a few cycles and a core begins one or two in each. X8 has
// the round's key. The tweaks wait in the frame until they are wanted a second time.
//
//	AX  round keys    CX  what is left of them    SI  source     BX  groups of eight blocks
//	R8  tweak, low    R9  tweak, high             DI  target

// LOAD takes block n, masks it with the tweak, and doubles that: IEEE 1619-2018 section 5.2.
#define LOAD(n, X) \
	MOVQ   R8, X8            \
	PINSRQ $1, R9, X8        \
	MOVOU  X8, (n*16)(SP)    \
	MOVOU  (n*16)(SI), X     \
	PXOR   X8, X             \
	MOVQ   R9, R10           \
	SARQ   $63, R10          \
	ANDQ   $0x87, R10        \
	ADDQ   R8, R8            \
	ADCQ   R9, R9            \
	XORQ   R10, R8

// ALL does one instruction with the round's key to each block.
#define ALL(OP) \
	OP X8, X0 \
	OP X8, X1 \
	OP X8, X2 \
	OP X8, X3 \
	OP X8, X4 \
	OP X8, X5 \
	OP X8, X6 \
	OP X8, X7

// STORE masks block n again and puts it to its place.
#define STORE(n, X) \
	MOVOU (n*16)(SP), X8 \
	PXOR  X8, X          \
	MOVOU X, (n*16)(DI)

// GROUPS is the whole of it, for ROUND and LAST of one direction.
#define GROUPS(ROUND, LAST) \
	MOVQ keys+0(FP), DX    \
	MOVQ rounds+8(FP), R11 \
	MOVQ dst+16(FP), DI    \
	MOVQ src+24(FP), SI    \
	MOVQ groups+32(FP), BX \
	MOVQ lo+40(FP), R8     \
	MOVQ hi+48(FP), R9     \
group: \
	LOAD(0, X0) \
	LOAD(1, X1) \
	LOAD(2, X2) \
	LOAD(3, X3) \
	LOAD(4, X4) \
	LOAD(5, X5) \
	LOAD(6, X6) \
	LOAD(7, X7) \
	MOVQ  DX, AX       \
	MOVQ  R11, CX      \
	MOVOU (AX), X8     \
	ALL(PXOR)          \
	DECQ  CX           \
round: \
	ADDQ  $16, AX      \
	MOVOU (AX), X8     \
	ALL(ROUND)         \
	DECQ  CX           \
	JNZ   round        \
	MOVOU 16(AX), X8   \
	ALL(LAST)          \
	STORE(0, X0) \
	STORE(1, X1) \
	STORE(2, X2) \
	STORE(3, X3) \
	STORE(4, X4) \
	STORE(5, X5) \
	STORE(6, X6) \
	STORE(7, X7) \
	ADDQ  $128, SI     \
	ADDQ  $128, DI     \
	DECQ  BX           \
	JNZ   group        \
	MOVQ  R8, nextLo+56(FP) \
	MOVQ  R9, nextHi+64(FP) \
	RET

// func xtsEncrypt(keys *roundKeys, rounds uint64, dst, src *byte, groups, lo, hi uint64) (nextLo, nextHi uint64)
TEXT ·xtsEncrypt(SB), NOSPLIT, $128-72
	GROUPS(AESENC, AESENCLAST)

// func xtsDecrypt(keys *roundKeys, rounds uint64, dst, src *byte, groups, lo, hi uint64) (nextLo, nextHi uint64)
TEXT ·xtsDecrypt(SB), NOSPLIT, $128-72
	GROUPS(AESDEC, AESDECLAST)

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL            w+0(FP), AX
	MOVQ            AX, X0
	PSHUFD          $0, X0, X0
	AESKEYGENASSIST $0, X0, X1
	MOVQ            X1, AX
	MOVL            AX, ret+8(FP)
	RET

// func inverseMix(dst, src *[16]byte)
TEXT ·inverseMix(SB), NOSPLIT, $0-16
	MOVQ   dst+0(FP), DI
	MOVQ   src+8(FP), SI
	MOVOU  (SI), X0
	AESIMC X0, X0
	MOVOU  X0, (DI)
	RET
