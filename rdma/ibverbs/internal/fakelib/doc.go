// Package fakelib builds a library that says it is libibverbs and librdmacm, writes down how it is called and answers as a test orders. It is
// compiled by gcc against the real headers, so that who calls it has to agree with those. Each test has a copy with a state of its own.
package fakelib
