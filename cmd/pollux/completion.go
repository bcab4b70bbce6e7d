package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/pollux-storage/pollux/ctl/api"
)

// This file writes completion scripts. All that can be completed is known when a script is written: commands, flags, the
// words that a flag may have, and the methods of the interface. So a script is a table made from kong's model of the
// command line, and completing starts no process.

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash: add 'source <(pollux completion bash)' to ~/.bashrc. zsh: write it to _pollux in a directory of $$fpath. fish: write it to ~/.config/fish/completions/pollux.fish."`
}

// Run prints the script.
func (c *completionCmd) Run(k *kong.Kong) error {
	scripts := map[string]func([]completedCommand) string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	_, err := io.WriteString(os.Stdout, scripts[c.Shell](commandsOf(k.Model.Node, "")))
	return err
}

// completedCommand is one command as a script sees it. at is its path, such as /config/save; that of pollux itself is
// nothing.
type completedCommand struct {
	at    string
	words []completedWord // commands below, or what its first argument may be
	files bool            // its arguments are files
	flags []completedFlag
}

type completedWord struct{ name, help string }

type completedFlag struct {
	names []string // --name, and -n where it has a short one
	help  string
	value bool     // it takes one
	words []string // that the value may be
	files bool     // the value is a file
}

// forms are the words after which the flag's value stands.
func (f *completedFlag) forms(at string) string {
	forms := make([]string, len(f.names))
	for i, name := range f.names {
		forms[i] = at + ":" + name
	}
	return strings.Join(forms, "|")
}

// commandsOf walks the model, outer commands first.
func commandsOf(node *kong.Node, at string) []completedCommand {
	command := completedCommand{at: at}
	for _, flag := range node.Flags {
		if !flag.Hidden {
			command.flags = append(command.flags, flagOf(flag))
		}
	}
	if at != "" {
		command.flags = append(command.flags, completedFlag{names: []string{"--help", "-h"}, help: "Show help"})
	}
	for _, argument := range node.Positional {
		switch {
		case argument.Name == "method":
			for _, spec := range api.Methods() {
				command.words = append(command.words, completedWord{spec.Name, sentence(spec.Doc)})
			}
		case argument.Enum != "":
			for word := range strings.SplitSeq(argument.Enum, ",") {
				command.words = append(command.words, completedWord{word, argument.Name})
			}
		}
		command.files = command.files || isFile(argument.Tag.PlaceHolder)
	}
	var below []completedCommand
	for _, child := range node.Children {
		if child.Type == kong.CommandNode && !child.Hidden {
			command.words = append(command.words, completedWord{child.Name, sentence(child.Help)})
			below = append(below, commandsOf(child, at+"/"+child.Name)...)
		}
	}
	return append([]completedCommand{command}, below...)
}

func flagOf(flag *kong.Flag) completedFlag {
	f := completedFlag{names: []string{"--" + flag.Name}, help: sentence(flag.Help), value: !flag.IsBool(), files: isFile(flag.Tag.PlaceHolder)}
	if flag.Short != 0 {
		f.names = append(f.names, "-"+string(flag.Short))
	}
	if flag.Enum != "" {
		f.words = strings.Split(flag.Enum, ",")
	}
	return f
}

// isFile tells from the word that stands for a value in the help whether it is a file.
func isFile(placeholder string) bool { return placeholder == "FILE" || placeholder == "PATH" }

func sentence(help string) string { return strings.TrimSuffix(help, ".") }

// paths are the ways of all commands but pollux itself.
func paths(commands []completedCommand) []string {
	var list []string
	for _, c := range commands {
		if c.at != "" {
			list = append(list, c.at)
		}
	}
	return list
}

// quote puts text in single quotes for bash and zsh.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// fishQuote puts text in single quotes for fish.
func fishQuote(text string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'"
}

func names(words []completedWord) []string {
	list := make([]string, len(words))
	for i, w := range words {
		list[i] = w.name
	}
	return list
}

func bashScript(commands []completedCommand) string {
	var values, flags, words strings.Builder
	for _, c := range commands {
		var all []string
		for _, f := range c.flags {
			all = append(all, f.names[0])
			switch {
			case !f.value:
			case f.files:
				fmt.Fprintf(&values, "    %s) _pollux_files; return ;;\n", f.forms(c.at))
			default: // also one of which nothing is known: no command is offered in its place
				fmt.Fprintf(&values, "    %s) _pollux_words %s; return ;;\n", f.forms(c.at), quote(strings.Join(f.words, " ")))
			}
		}
		fmt.Fprintf(&flags, "      %s) _pollux_words %s ;;\n", quote(c.at), quote(strings.Join(all, " ")))
		if c.files {
			fmt.Fprintf(&words, "    %s) _pollux_files ;;\n", quote(c.at))
		} else {
			fmt.Fprintf(&words, "    %s) _pollux_words %s ;;\n", quote(c.at), quote(strings.Join(names(c.words), " ")))
		}
	}
	return `# Completion of pollux for bash.
_pollux_words() { COMPREPLY=($(compgen -W "$1" -- "$cur")); }
_pollux_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); }
_pollux() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= i
  # --flag=value comes as three words.
  [[ $cur == = ]] && cur=
  [[ $prev == = ]] && prev=${COMP_WORDS[COMP_CWORD-2]}
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/${COMP_WORDS[i]}" in
    ` + strings.Join(paths(commands), "|") + `) at="$at/${COMP_WORDS[i]}" ;;
    esac
  done
  case "$at:$prev" in
` + values.String() + `  esac
  if [[ $cur == -* ]]; then
    case $at in
` + flags.String() + `    esac
    return
  fi
  case $at in
` + words.String() + `  esac
}
complete -F _pollux pollux
`
}

func zshScript(commands []completedCommand) string {
	var values, flags, words strings.Builder
	for _, c := range commands {
		var all []string
		for _, f := range c.flags {
			all = append(all, quote(f.names[0]+":"+f.help))
			switch {
			case !f.value:
			case f.files:
				fmt.Fprintf(&values, "    %s) _files; return ;;\n", f.forms(c.at))
			case f.words != nil:
				fmt.Fprintf(&values, "    %s) compadd -- %s; return ;;\n", f.forms(c.at), strings.Join(f.words, " "))
			default:
				fmt.Fprintf(&values, "    %s) _message %s; return ;;\n", f.forms(c.at), quote(f.help))
			}
		}
		fmt.Fprintf(&flags, "      %s) list=(%s) ;;\n", quote(c.at), strings.Join(all, " "))
		if c.files {
			fmt.Fprintf(&words, "    %s) _files; return ;;\n", quote(c.at))
			continue
		}
		all = nil
		for _, w := range c.words {
			all = append(all, quote(w.name+":"+w.help))
		}
		fmt.Fprintf(&words, "    %s) list=(%s) ;;\n", quote(c.at), strings.Join(all, " "))
	}
	return `#compdef pollux
# Completion of pollux for zsh.
_pollux() {
  local at= i
  local -a list
  for ((i = 2; i < CURRENT; i++)); do
    case "$at/${words[i]}" in
    ` + strings.Join(paths(commands), "|") + `) at="$at/${words[i]}" ;;
    esac
  done
  case "$at:${words[CURRENT-1]}" in
` + values.String() + `  esac
  if [[ ${words[CURRENT]} == -* ]]; then
    case $at in
` + flags.String() + `    esac
    _describe -o flag list
    return
  fi
  case $at in
` + words.String() + `  esac
  _describe command list
}
if [[ $funcstack[1] == _pollux ]]; then
  _pollux "$@"
else
  compdef _pollux pollux
fi
`
}

func fishScript(commands []completedCommand) string {
	var b strings.Builder
	b.WriteString(`# Completion of pollux for fish.
function __pollux_at
    set -l at
    set -l given (commandline -opc)
    for word in $given[2..-1]
        switch "$at/$word"
            case ` + strings.Join(paths(commands), " ") + `
                set at "$at/$word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c pollux -f
`)
	for _, c := range commands {
		at := fishQuote("__pollux_at " + fishQuote(c.at))
		for _, w := range c.words {
			fmt.Fprintf(&b, "complete -c pollux -n %s -a %s -d %s\n", at, w.name, fishQuote(w.help))
		}
		if c.files {
			fmt.Fprintf(&b, "complete -c pollux -n %s -F\n", at)
		}
		for _, f := range c.flags {
			fmt.Fprintf(&b, "complete -c pollux -n %s -l %s", at, strings.TrimPrefix(f.names[0], "--"))
			if len(f.names) > 1 {
				fmt.Fprintf(&b, " -s %s", strings.TrimPrefix(f.names[1], "-"))
			}
			switch {
			case f.files:
				b.WriteString(" -r -F")
			case f.words != nil:
				fmt.Fprintf(&b, " -x -a %s", fishQuote(strings.Join(f.words, " ")))
			case f.value:
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuote(f.help))
		}
	}
	return b.String()
}
