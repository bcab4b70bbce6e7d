package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/pollux-storage/pollux/ctl/api"
)

// iscsiCHAPCmd is about the secrets of a target's initiators. A secret is never an argument: others can see those.
type iscsiCHAPCmd struct {
	Set    iscsiCHAPSetCmd    `cmd:"" help:"Give an initiator of a target a secret, and let initiators log in with theirs alone."`
	Remove iscsiCHAPRemoveCmd `cmd:"" help:"Take an initiator's secret away."`
	List   iscsiCHAPListCmd   `cmd:"" help:"List who has a secret; none is shown."`
}

type iscsiCHAPSetCmd struct {
	engineFlags
	Target           string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
	User             string `arg:"" help:"Name that the initiator gives: node.session.auth.username of iscsiadm."`
	SecretFile       string `required:"" placeholder:"FILE" help:"File with the initiator's secret, 12 bytes or more; - is the standard input."`
	TargetUser       string `placeholder:"USER" help:"Name that the target gives, so that it proves itself too."`
	TargetSecretFile string `placeholder:"FILE" help:"File with the target's secret; another than the initiator's."`
}

// Run sets the secret, in the target's own group.
func (c *iscsiCHAPSetCmd) Run() error {
	if (c.TargetUser == "") != (c.TargetSecretFile == "") {
		return errors.New("set the secret: --target-user and --target-secret-file go together")
	}
	if max(len(c.User), len(c.TargetUser)) > secretBytesMax {
		return fmt.Errorf("set the secret: a user has at most %d bytes", secretBytesMax)
	}
	secret, err := readSecret(c.SecretFile)
	if err != nil {
		return err
	}
	s := api.ISCSISecret{User: c.User, Secret: secret, MUser: c.TargetUser}
	if c.TargetSecretFile != "" {
		if s.MSecret, err = readSecret(c.TargetSecretFile); err != nil {
			return err
		}
	}
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	n, groups, err := lookAtSecrets(ctx, engine, c.Target)
	if err != nil {
		return err
	}
	tag := n.CHAPGroup
	at := slices.IndexFunc(groups, func(g api.ISCSIAuthGroup) bool { return g.Tag == tag })
	if tag == 0 {
		tag = 1
		for _, g := range groups {
			tag = max(tag, g.Tag+1)
		}
	}
	if at < 0 {
		if _, err := api.ISCSICreateAuthGroup.Call(ctx, engine, api.ISCSICreateAuthGroupParams{Tag: tag}); err != nil {
			return err
		}
	} else if slices.ContainsFunc(groups[at].Secrets, func(o api.ISCSISecret) bool { return o.User == c.User }) {
		if _, err := api.ISCSIAuthGroupRemoveSecret.Call(ctx, engine, api.ISCSIRemoveSecretParams{Tag: tag, User: c.User}); err != nil {
			return err
		}
	}
	if _, err := api.ISCSIAuthGroupAddSecret.Call(ctx, engine, api.ISCSIAddSecretParams{Tag: tag, ISCSISecret: s}); err != nil {
		return err
	}
	auth := api.ISCSIAuth{RequireCHAP: true, MutualCHAP: n.MutualCHAP || s.MUser != "", CHAPGroup: tag}
	_, err = api.ISCSITargetNodeSetAuth.Call(ctx, engine, api.ISCSINodeAuthParams{Name: n.Name, ISCSIAuth: auth})
	return err
}

// secretBytesMax is what the engine takes, secretTextMax that and the end of a line. What it would refuse is not sent: a secret that is to be replaced
// is taken away first.
const (
	secretBytesMax = 255
	secretTextMax  = secretBytesMax + 2 // CR LF
)

// readSecret reads a secret from a file, without the newline at its end.
func readSecret(path string) (string, error) {
	file := os.Stdin
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return "", fmt.Errorf("read the secret: %w", err)
		}
		defer file.Close()
	}
	text, err := io.ReadAll(io.LimitReader(file, secretTextMax+1))
	if err != nil {
		return "", fmt.Errorf("read the secret from %s: %w", path, err)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" || len(secret) > secretBytesMax || len(text) > secretTextMax || strings.Contains(secret, "\x00") {
		return "", fmt.Errorf("read the secret from %s: it has %d bytes; 1 to %d without a NUL are allowed, and 12 or more wise", path, len(secret), secretBytesMax)
	}
	return secret, nil
}

// lookAtSecrets finds a target, and all groups of secrets.
func lookAtSecrets(ctx context.Context, engine api.Caller, target string) (*api.ISCSITargetNode, []api.ISCSIAuthGroup, error) {
	_, n, err := lookAtISCSITarget(ctx, engine, target)
	if err != nil {
		return nil, nil, err
	}
	groups, err := api.ISCSIGetAuthGroups.Call(ctx, engine, api.None{})
	return n, groups, err
}

type iscsiCHAPRemoveCmd struct {
	engineFlags
	Target string `arg:"" help:"Target, as iscsi list names it, or the part behind the last colon."`
	User   string `arg:"" help:"Name of the initiator."`
}

// Run removes it. The target asks for secrets all the same: without any nobody can log in.
func (c *iscsiCHAPRemoveCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	n, _, err := lookAtSecrets(ctx, engine, c.Target)
	if err != nil {
		return err
	}
	if n.CHAPGroup == 0 {
		return fmt.Errorf("remove the secret of %s: target %s has none", c.User, n.Name)
	}
	_, err = api.ISCSIAuthGroupRemoveSecret.Call(ctx, engine, api.ISCSIRemoveSecretParams{Tag: n.CHAPGroup, User: c.User})
	return err
}

type iscsiCHAPListCmd struct {
	engineFlags
	outputFlags
}

// chapUser is who has a secret.
type chapUser struct {
	Group   int32    `json:"group"`
	User    string   `json:"user"`
	Mutual  string   `json:"target_user,omitempty"`
	Targets []string `json:"targets"`
}

// Run lists.
func (c *iscsiCHAPListCmd) Run() error {
	engine, err := c.dial()
	if err != nil {
		return err
	}
	defer engine.Close()
	ctx := context.Background()
	l, err := lookAtISCSI(ctx, engine)
	if err != nil {
		return err
	}
	groups, err := api.ISCSIGetAuthGroups.Call(ctx, engine, api.None{})
	if err != nil {
		return err
	}
	list := []chapUser{}
	for _, g := range groups {
		targets := []string{}
		for _, n := range l.nodes {
			if n.CHAPGroup == g.Tag {
				targets = append(targets, n.Name)
			}
		}
		for _, s := range g.Secrets {
			list = append(list, chapUser{g.Tag, s.User, s.MUser, targets})
		}
	}
	return c.print(list, func(t *table) {
		t.columns("GROUP", "USER", "TARGET USER", "TARGETS")
		for _, u := range list {
			t.row(u.Group, u.User, u.Mutual, strings.Join(u.Targets, " "))
		}
	})
}
