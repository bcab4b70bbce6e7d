package bdev

import "github.com/pollux-storage/pollux/reactor"

// This file is the arithmetic of limits: no reactor, no request, only tokens and time. See limits.go for how they travel.
//
// Tokens come into being by the clock, in equal parts for all payers who have asked lately. What is made for one stays on its
// account until it asks, so that a payer who is far away and asks seldom gets its share like one who is near. An account that
// is full flows over into a common chest, from which all may take: what one does not use, the others may.

// tokens are amounts of what the limits count: requests, bytes, bytes read, bytes written.
type tokens [4]float64

const (
	tokenIO = iota
	tokenBytes
	tokenReadBytes
	tokenWriteBytes
)

// Spans. What may gather anywhere is a few hundredths of a second's worth, so the rate holds over any second.
const (
	turnSpan    = reactor.Millisecond       // between two turns of giving, while somebody waits
	chunkSpan   = 4 * reactor.Millisecond   // a payer asks for so much, and again when it has less than half
	accountSpan = 20 * reactor.Millisecond  // an account holds so much
	idleSpan    = 20 * reactor.Millisecond  // the chest holds so much while nobody waits
	hungrySpan  = 100 * reactor.Millisecond // and so much while somebody does: a reactor that was away makes up for it
	lately      = 100 * reactor.Millisecond // who asked within it gets a part
	stale       = 50 * reactor.Millisecond  // what a payer has not used by then, but for a chunk, is void
)

// rates are tokens per nanosecond; 0 is no limit.
type rates tokens

func (r *rates) limited(d int) bool { return r[d] > 0 }

// worth is what comes into being in a span.
func (r *rates) worth(d int, span reactor.Ticks) float64 { return r[d] * float64(span) }

// pot is where tokens come into being.
type pot struct {
	rates    rates
	at       reactor.Ticks // until when they have been made
	chest    tokens
	accounts []account // by payer
}

type account struct {
	have   tokens
	asked  reactor.Ticks // when it last asked
	waits  bool          // it has asked and not been given
	want   tokens        // how much, if it waits
	got    tokens        // what it was given last
	joined bool          // it has asked at all
}

// fill makes the tokens of the time that has passed.
func (p *pot) fill(now reactor.Ticks) {
	span := now - p.at
	p.at = now
	payers, hungry := 0, false
	for i := range p.accounts {
		a := &p.accounts[i]
		if a.waits {
			hungry = true
		} else if now-a.asked > lately {
			a.joined = false
		}
		if a.joined {
			payers++
			continue
		}
		for d := range a.have {
			p.chest[d] += a.have[d]
			a.have[d] = 0
		}
	}
	for d := range p.chest {
		made := p.rates.worth(d, span)
		if payers == 0 {
			p.chest[d] += made
		}
		for i := range p.accounts {
			if a := &p.accounts[i]; a.joined {
				a.have[d] += made / float64(payers)
				if over := a.have[d] - p.rates.worth(d, accountSpan); over > 0 {
					a.have[d] -= over
					p.chest[d] += over
				}
			}
		}
		most := idleSpan
		if hungry {
			most = hungrySpan
		}
		p.chest[d] = min(p.chest[d], p.rates.worth(d, most))
	}
}

// ask notes that payer i wants so much.
func (p *pot) ask(i int, want *tokens, now reactor.Ticks) {
	p.fill(now)
	a := &p.accounts[i]
	a.asked, a.waits, a.joined, a.want = now, true, true, *want
}

// receiver hears what a payer was given; got is lent for the call.
type receiver interface {
	gave(i int, got *tokens)
}

// give gives those who wait what they want, from their accounts, and then from the chest in equal parts. Who got something,
// or wants nothing that is limited, no longer waits.
func (p *pot) give(now reactor.Ticks, to receiver) {
	p.fill(now)
	for i := range p.accounts {
		a := &p.accounts[i]
		if !a.waits {
			continue
		}
		got := &a.got // not on the stack: to is an interface, and what goes through one escapes
		*got = tokens{}
		limited := false
		for d := range got {
			if a.want[d] > 0 && p.rates.limited(d) {
				limited = true
				got[d] = min(a.want[d], a.have[d])
				a.have[d] -= got[d]
				extra := min(a.want[d]-got[d], p.part(d, i))
				p.chest[d] -= extra
				got[d] += extra
			}
		}
		if *got != (tokens{}) || !limited {
			a.waits = false
			to.gave(i, got)
		}
	}
}

// part is what payer i may take of the chest when it and those after it want something: equal parts for all, and what the
// earlier ones left of theirs for the later.
func (p *pot) part(d, i int) float64 {
	n := 0
	for k := i; k < len(p.accounts); k++ {
		if a := &p.accounts[k]; a.waits && a.want[d] > a.have[d] {
			n++
		}
	}
	return p.chest[d] / float64(max(n, 1))
}

// waits reports whether anybody waits.
func (p *pot) waits() bool {
	for i := range p.accounts {
		if p.accounts[i].waits {
			return true
		}
	}
	return false
}

// purse is what one payer has.
type purse struct {
	rates rates
	have  tokens
	given reactor.Ticks // when it last got something
}

// admits reports whether a request with this cost may go: there is something left of all that it needs. It may overdraw, and
// then the next waits until that is paid off; so a request larger than a chunk goes too, and the rate is kept.
func (p *purse) admits(cost *tokens) bool {
	for d, c := range cost {
		if c > 0 && p.rates.limited(d) && p.have[d] <= 0 {
			return false
		}
	}
	return true
}

func (p *purse) pay(cost *tokens) {
	for d, c := range cost {
		if p.rates.limited(d) {
			p.have[d] -= c
		}
	}
}

// expire voids what was not used for long.
func (p *purse) expire(now reactor.Ticks) {
	if now-p.given < stale {
		return
	}
	p.given = now
	for d := range p.have {
		p.have[d] = min(p.have[d], p.rates.worth(d, chunkSpan))
	}
}

// low reports whether it is time to ask for more.
func (p *purse) low() bool {
	for d := range p.have {
		if p.rates.limited(d) && p.have[d] < p.rates.worth(d, chunkSpan)/2 {
			return true
		}
	}
	return false
}

// want is what it should ask for, when requests that cost so much wait.
func (p *purse) want(waiting *tokens) tokens {
	var w tokens
	for d := range w {
		if p.rates.limited(d) {
			w[d] = max(0, max(p.rates.worth(d, chunkSpan), waiting[d])-p.have[d])
		}
	}
	return w
}

func (p *purse) add(got *tokens, now reactor.Ticks) {
	p.given = now
	for d := range p.have {
		p.have[d] += got[d]
	}
}
