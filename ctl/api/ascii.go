package api

import (
	"unicode/utf16"
	"unicode/utf8"
)

// AppendASCII appends a JSON text to b with every character beyond ASCII written as a \u escape.
//
// SPDK's Python client decodes UTF-8 in pieces of 4096 bytes (python/spdk/rpc/client.py, recv): a character cut by the
// edge of a piece raises an exception there. Outside of strings JSON is ASCII, so the text may be treated as a whole.
func AppendASCII(b, json []byte) []byte {
	for i := 0; i < len(json); {
		if json[i] < utf8.RuneSelf {
			b = append(b, json[i])
			i++
			continue
		}
		r, size := utf8.DecodeRune(json[i:])
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			b = appendEscape(appendEscape(b, high), low)
		} else {
			b = appendEscape(b, r)
		}
		i += size
	}
	return b
}

func appendEscape(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	return append(b, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
}
