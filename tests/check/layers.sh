#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# A folder is a layer, and nothing includes upwards: the headers that each may include, beside its own,
# those of the system, and include/, which all may. The daemon's folders say where a header is from
# ("model/export.h"), except for what lies in daemon/ itself: that is below them all, but for a few
# files that lie above.
. "$(dirname "$0")/../lib/common.sh"

declare -A may_include=(
    [daemon]=''
    [model]='daemon'
    [mount]='daemon model'
    [control]='daemon model'
    [state]='daemon model control'
    [above]='daemon model mount control state'
    [mount-helper]='daemon mount'
    # Of the daemon's own only what programs that talk to it may know: constants and texts.
    [dmioctl]='daemon model/statistics.h'
)
above=(manager stop main)

# layer_of FILE: as the sources name it, "NAME" or "FOLDER/NAME".
layer_of() {
    local stem=${1%.[ch]}
    case $stem in
    */*) printf '%s\n' "${stem%%/*}" ;;
    *) if [[ " ${above[*]} " == *" $stem "* ]]; then echo above; else echo daemon; fi ;;
    esac
}

# list_includes FOLDER: each header in quotes, after the file that includes it.
list_includes() {
    find "$DMIO_SOURCE/$1" -name '*.[ch]' -printf '%P\n' | sort | while read -r file; do
        sed -n 's/^#include "\(.*\)"$/\1/p' "$DMIO_SOURCE/$1/$file" |
            while read -r header; do printf '%s %s\n' "$file" "$header"; done
    done
}

# is_within LAYER HEADER: that of include/, or of what the layer may include.
is_within() {
    local layer=$1 header=$2 theirs
    case $header in
    util/* | dmio/*) return ;;
    *.varlink.h) [ "$layer" = control ] && return ;;
    esac
    theirs=$(layer_of "$header")
    [ "$theirs" != "$layer" ] || return 0
    [[ " ${may_include[$layer]} " == *" $theirs "* || " ${may_include[$layer]} " == *" $header "* ]]
}

n=0
while read -r file header; do
    layer=$(layer_of "$file")
    [ -v "may_include[$layer]" ] || fail "daemon/$file: a folder that this table does not have"
    is_within "$layer" "$header" || fail "daemon/$file includes \"$header\""
    n=$((n + 1))
done < <(list_includes daemon)
expect "the daemon's files include each other" test "$n" -gt 100
ok "and none includes upwards"

# By "NAME" alone, because only what is public has a folder.
while read -r file header; do
    case $header in
    util/*) ;;
    */*) fail "libdmio/$file includes \"$header\"" ;;
    *) [ -e "$DMIO_SOURCE/libdmio/$header" ] || fail "libdmio/$file includes \"$header\"" ;;
    esac
done < <(list_includes libdmio)
ok "nor does the library"

while read -r file header; do
    [[ $header == util/* || $header == dmio/* ]] || fail "include/$file includes \"$header\""
done < <(list_includes include)
ok "nor do the public headers"
