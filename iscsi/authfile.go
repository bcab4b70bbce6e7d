package iscsi

import (
	"fmt"
	"strconv"
	"strings"
)

// This file reads the file of CHAP secrets in the form that SPDK's auth_file has (lib/iscsi/iscsi_subsystem.c, lib/conf):
//
//	# a comment
//	[AuthGroup1]
//	  Comment "words that nobody reads"
//	  Auth "user" "secret"
//	  Auth "user" "secret" "muser" "msecret"
//
// Words stand between spaces, or between quotes of either kind; a backslash at the end of a line joins the next one. Sections of other names
// are passed over.

// ParseAuthFile reads the groups of an auth file. Errors name the line, and tell nothing of a secret.
func ParseAuthFile(text string) ([]AuthGroup, error) {
	var groups []AuthGroup
	var g *AuthGroup // nil in a section that is passed over
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		at, line := i+1, lines[i]
		for strings.HasSuffix(line, "\\") && i+1 < len(lines) {
			i++
			line = strings.TrimSuffix(line, "\\") + lines[i]
		}
		bad := func(why string) error { return fmt.Errorf("line %d: %w: %s", at, ErrInvalid, why) }
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok {
				return nil, bad("a section begins with [ and has no ]")
			}
			number, ok := strings.CutPrefix(strings.TrimSpace(name), "AuthGroup")
			if g = nil; !ok {
				continue
			}
			tag, err := strconv.ParseInt(number, 10, 32)
			if err != nil || tag < 1 {
				return nil, bad("a section AuthGroup has a number from 1 on behind it")
			}
			for _, o := range groups {
				if o.Tag == int(tag) {
					return nil, bad("there is a section AuthGroup" + number + " already")
				}
			}
			groups = append(groups, AuthGroup{Tag: int(tag), FromFile: true})
			g = &groups[len(groups)-1]
			continue
		case g == nil:
			continue
		}
		words, ok := confWords(line)
		switch {
		case !ok:
			return nil, bad("a quote has no end")
		case words[0] == "Comment":
		case words[0] != "Auth":
			return nil, bad("a line of an AuthGroup begins with Auth or Comment")
		case len(words) != 3 && len(words) != 5:
			return nil, bad("Auth has a user and a secret behind it, and perhaps a user and a secret of the target")
		default:
			s := Secret{User: words[1], Secret: words[2]}
			if len(words) == 5 {
				s.MutualUser, s.MutualSecret = words[3], words[4]
			}
			if err := s.check(); err != nil {
				return nil, fmt.Errorf("line %d: %w", at, err)
			}
			g.Secrets = append(g.Secrets, s)
		}
	}
	return groups, nil
}

// confWords cuts a line into words; false if a quote does not end.
func confWords(line string) (words []string, ok bool) {
	var word strings.Builder
	inside, quote := false, byte(0)
	for i := range len(line) {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteByte(c)
		case c == '"' || c == '\'':
			inside, quote = true, c
		case c == ' ' || c == '\t':
			if inside {
				words = append(words, word.String())
				word.Reset()
			}
			inside = false
		default:
			inside = true
			word.WriteByte(c)
		}
	}
	if inside {
		words = append(words, word.String())
	}
	return words, quote == 0
}
