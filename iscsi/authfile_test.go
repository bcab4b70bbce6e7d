package iscsi

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseAuthFile(t *testing.T) {
	got, err := ParseAuthFile("# secrets\r\n[Global]\n  Comment nobody\n  What \"ever\n\n[AuthGroup1]\n  Comment \"Auth Group 1\"\n  Auth \"user 1\" 'se\"cret'\n" +
		"\tAuth user2 \\\n    secret2 muser2 \"m secret\"\n[ AuthGroup20]\n")
	want := []AuthGroup{
		{Tag: 1, Secrets: []Secret{{User: "user 1", Secret: `se"cret`}, {"user2", "secret2", "muser2", "m secret"}}, FromFile: true},
		{Tag: 20, FromFile: true},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, c := range []struct{ why, text, want string }{
		{"group 0", "[AuthGroup0]", "line 1"},
		{"a group without a number", "\n[AuthGroup]", "line 2"},
		{"a group twice", "[AuthGroup1]\n[AuthGroup1]", "line 2: invalid: there is a section AuthGroup1 already"},
		{"a section without an end", "[AuthGroup1", "has no ]"},
		{"a quote without an end", "[AuthGroup1]\nAuth \"user topsecret", "line 2: invalid: a quote has no end"},
		{"a user alone", "[AuthGroup1]\nAuth user", "line 2"},
		{"a target without a secret", "[AuthGroup1]\nAuth user topsecret muser", "line 2"},
		{"too many words", "[AuthGroup1]\nAuth user topsecret muser topsecret more", "line 2"},
		{"an empty secret", "[AuthGroup1]\nAuth user \"\"", "line 2"},
		{"a secret that is too long", "[AuthGroup1]\nAuth user " + strings.Repeat("topsecret", 40), "line 2: user user: secret"},
		{"another word", "[AuthGroup1]\nAuthor user topsecret", "line 2: invalid: a line of an AuthGroup begins with Auth or Comment"},
	} {
		_, err := ParseAuthFile(c.text)
		if err == nil || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%s: %v", c.why, err)
		}
	}
}

func FuzzParseAuthFile(f *testing.F) {
	f.Add("[AuthGroup1]\n  Auth \"user\" \"secret\" 'm' n\\\no\n")
	f.Fuzz(func(t *testing.T, text string) {
		groups, err := ParseAuthFile(text)
		for _, g := range groups {
			for _, s := range g.Secrets {
				if s.User == "" || s.Secret == "" {
					t.Errorf("%+v, %v", g, err)
				}
			}
		}
	})
}
