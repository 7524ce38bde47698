# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=bash
#
# Completion for bash. dmioctl itself knows its verbs and options, and the names that the daemon has
# at the moment: it prints what the last of the words may become. A line that begins with a colon is
# for us; see daemon/dmioctl/completion.h.

_dmioctl() {
    local line word=${COMP_WORDS[COMP_CWORD]}
    # At "=" and ":" bash begins a word; the one there is still empty.
    [[ $word != [=:]* ]] || word=
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
        :nospace) compopt -o nospace 2>/dev/null ;;
        :files)
            compopt -o filenames 2>/dev/null
            while IFS= read -r line; do COMPREPLY+=("$line"); done < <(compgen -f -- "$word")
            ;;
        *) COMPREPLY+=("$line") ;;
        esac
    done < <("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null </dev/null)
}
complete -F _dmioctl dmioctl
