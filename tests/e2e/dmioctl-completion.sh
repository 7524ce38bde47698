#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Completion in bash: every verb and option of --help, values, files, and the names that the daemon has
# at the moment; no waiting for one that does not answer, none that is started to be asked.
. "$(dirname "$0")/../lib/common.sh"
require_root
require_fuse
require_cmd socat jq python3

# The shell finds it by its name, as everybody's does.
mkdir "$WORK/bin"
ln -s "$DMIOCTL" "$WORK/bin/dmioctl"
PATH=$WORK/bin:$PATH
# shellcheck disable=SC1091 # this is the one
. "$DMIO_SOURCE/daemon/dmioctl/bash-completion.sh"
expect_match "bash knows it" "$(complete -p dmioctl)" "complete -F _dmioctl dmioctl"

# try LINE: what the last word may become, sorted. The line is taken apart as bash does it: at blanks,
# and at colons and equal signs, which are words of their own.
try() {
    local line=$1
    trap - ERR # compopt fails where nothing is being completed
    set +e
    eval "COMP_WORDS=($(sed -E "s/([:=]+)/ '\1' /g" <<<"$line"))"
    [[ $line != *[\ ] ]] || COMP_WORDS+=("")
    COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    _dmioctl
    printf '%s\n' "${COMPREPLY[@]}" | sed '/^$/d' | sort
}
# expect_words WHAT LINE WORD...: these and no others.
expect_words() {
    local what=$1 line=$2
    shift 2
    expect_eq "$what" "$(try "$line" | tr '\n' ' ')" "$(printf '%s\n' "$@" | sed '/^$/d' | sort | tr '\n' ' ')"
}
has_word() {
    try "$1" | grep -qxF -- "$2"
}

cd "$WORK"

# --- verbs and options: those of --help, which comes of the same tables by another way
dmioctl --help >help
mapfile -t verbs < <(sed -n 's/^  \([a-z][a-z ]*[a-z]\)\( [A-Z[].*\)\?$/\1/p' help)
expect "there are verbs" test ${#verbs[@]} -gt 20
mapfile -t firsts < <(printf '%s\n' "${verbs[@]}" | sed 's/ .*//' | sort -u)
expect_words "the first words of all verbs" "dmioctl " "${firsts[@]}"
for first in "${firsts[@]}"; do
    expect "$first is completed" has_word "dmioctl ${first%?}" "$first"
    mapfile -t seconds < <(printf '%s\n' "${verbs[@]}" | sed -n "s/^$first //p")
    [ ${#seconds[@]} = 0 ] || expect_words "the second words of $first" "dmioctl $first " "${seconds[@]}"
done
for verb in "${verbs[@]}"; do
    # shellcheck disable=SC2086 # one or two words
    mapfile -t options < <(dmioctl $verb --help | sed -n 's/^  \(--[a-z-]*\)\(=\?\).*/\1\2/p' | sed 's/[^=]$/& /')
    expect "$verb has options" test ${#options[@]} -ge 5
    expect_words "all of them" "dmioctl $verb --" "${options[@]}"
done
expect_words "options before a verb" "dmioctl --h" "--help "
expect_words "those that are there are not offered again" "dmioctl --json --linger client open --" \
    "--control=" "--user " "--help " "--version " "--pages="
expect_words "a verb behind options" "dmioctl --json --control /x/y jo" job
expect_words "nothing behind what takes no more" "dmioctl status "
expect_words "nothing for no verb" "dmioctl fly "

# --- values, operations, files
expect_words "--cache=" "dmioctl export create a/b --cache=" page none
expect_words "--cache=p" "dmioctl export create a/b --cache=p" page
expect_words "--cache, a word behind it" "dmioctl export create a/b --cache " page none
expect_words "operations" "dmioctl io w" write write-zeroes
mkdir files
cd files
truncate -s 1M one.img two.img
mkdir folder
expect_words "legs are files" "dmioctl io read alice " one.img two.img folder
expect_words "all of them" "dmioctl export create a/b one.img:0+8 t" two.img
expect_words "a destination" "dmioctl copy alice one.img:0+8 two.img:0+8 f" folder
expect_words "behind the colon, all of the device" "dmioctl io read alice one.img:" "0+2048"
expect_words "begun" "dmioctl zero alice ./two.img:0+2" "0+2048"
expect_words "of what is none, nothing" "dmioctl io read alice none.img:"
expect_words "a folder is no device" "dmioctl io read alice folder:"
expect_words "--output=" "dmioctl io read alice one.img:0+8 --output=t" two.img
expect_words "files for call" "dmioctl call Io {} o" one.img
expect_eq "a colon that is no word of its own" \
    "$("$DMIOCTL" complete io read alice one.img:)" "one.img:0+2048"
expect_eq "an equal sign that is none" "$("$DMIOCTL" complete export create a/b --cache=p)" "--cache=page"

# --- without a daemon, and with one that does not answer
here="dmioctl --control=$CONTROL"
expect_words "no names without a daemon" "$here client close "
took() {
    local began=${EPOCHREALTIME/./}
    "$@" >/dev/null
    echo $(((${EPOCHREALTIME/./} - began) / 1000))
}
python3 -c 'import socket, sys, time
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
s.listen(0)
time.sleep(100)' "$CONTROL" &
mute=$!
defer end_process $mute
wait_for 10 test -S "$CONTROL"
for ((i = 0; i < 3; i++)); do
    expect "one that does not answer is not waited for" test "$(took try "$here client close ")" -lt 4000
done
end_process $mute
rm -f "$CONTROL"

# --- names
printf '[daemon]\ndrills = yes\n' >"$WORK/dmiod.conf"
start_dmiod
asked() {
    "$DMIOCTL" --control="$CONTROL" "$@"
}
asked client open alice --linger >/dev/null
asked client open albert --linger >/dev/null
asked client open bob --linger >/dev/null
asked export create alice/vol one.img:0+8 >/dev/null
asked export create bob/disk one.img:8+8 >/dev/null
for verb in "client close" get put "export list" "io read" "submit write" wait copy zero; do
    expect_words "$verb: clients" "$here $verb " alice albert bob
    expect_words "begun" "$here $verb al" alice albert
done
expect_words "the socket as a word of its own" "dmioctl --control $CONTROL get b" bob
expect_words "export remove: exports" "$here export remove " alice/vol bob/disk
expect_words "export create: clients" "$here export create " alice/ albert/ bob/
expect_words "no names for a new client" "$here client open "
asked fault add alice/vol 0 hold >/dev/null
asked fault add bob/disk 0 delay --delay 1ms >/dev/null
for verb in release remove; do
    expect_words "fault $verb: faults" "$here fault $verb " 1 2
done
mapfile -t methods < <(sed -n 's/^method \(List[A-Za-z]*\)(.*/\1/p' "$DMIO_SOURCE/daemon/control/io.dmiod.varlink")
expect "there are methods" test ${#methods[@]} -ge 3
expect_words "methods" "$here call List" "${methods[@]}"
truncate -s 64M long.img long2.img
"$DMIOCTL" --control="$CONTROL" copy alice long.img:0+64MiB long2.img:0+64MiB --throttle=1 >/dev/null 2>&1 &
defer end_process $!
job_runs() {
    [ "$(ctl_ok ListJobs | jq -r '.jobs[-1].state')" = running ]
}
wait_for 10 job_runs
job=$(ctl_ok ListJobs | jq '.jobs[-1].job')
expect_words "job cancel: jobs" "$here job cancel " "$job"
expect_words "job watch" "$here job watch " "$job"
ctl_ok CancelJob "{\"job\":$job}" >/dev/null
no_job_runs() {
    ! job_runs
}
wait_for 10 no_job_runs
expect_words "not those that have ended" "$here job cancel "

# --- in a shell that somebody types into
cat >"$WORK/type.py" <<'END'
import os, pty, re, select, sys, time
control, script = sys.argv[1:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ.update(PS1='$ ', TERM='dumb', HISTFILE='/dev/null', INPUTRC='/dev/null')
    os.execvp('bash', ['bash', '--norc', '--noprofile', '-i'])
text = b''
def until(what):
    global text
    end = time.monotonic() + 20
    while what.encode() not in text:
        assert time.monotonic() < end, (what, text)
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 65536)
def type_in(keys, becomes):
    global text
    text = b''
    os.write(terminal, keys.encode())
    until(becomes)
    os.write(terminal, b'\x15')     # the line is taken away
    print('ok - typed %r, got %r' % (keys, becomes))
until('$ ')
os.write(terminal, b"bind 'set bell-style none'; . '%s'; echo rea''dy\n" % script.encode())
until('ready')
for keys, becomes in (
        ('dmioctl clie\t', 'dmioctl client '),
        ('dmioctl export create a/b one.img:0+8 --read\t', '--read-only '),
        ('dmioctl export create a/b --ca\tp\t', '--cache=page '),
        ('dmioctl io read alice one\t', 'one.img'),
        ('dmioctl io read alice one.img:\t', 'one.img:0+2048'),
        ('dmioctl --control=' + control + ' client close ali\t', 'client close alice '),
        ('dmioctl --control=' + control + ' export create ali\tv', 'export create alice/v'),
        ('dmioctl --control=' + control + ' export remove bo\t', 'export remove bob/disk ')):
    type_in(keys, becomes)
os.write(terminal, b'exit\n')
os.waitpid(pid, 0)
END
expect "TAB" python3 "$WORK/type.py" "$CONTROL" "$DMIO_SOURCE/daemon/dmioctl/bash-completion.sh"

# --- a daemon that systemd would start is not asked
cat >"$WORK/bin/systemctl" <<END
#!/bin/sh
echo "\$*" >>$WORK/asked
case \$* in *dmiod.socket*) echo SubState=\$(cat $WORK/substate) ;; esac
END
chmod +x "$WORK/bin/systemctl"
mkdir -p "$WORK/run/dmiod"
stop_dmiod
CONTROL=$WORK/run/dmiod/control
start_dmiod
open_client carol 8
export XDG_RUNTIME_DIR=$WORK/run
echo running >"$WORK/substate"
expect_words "one that runs is asked" "dmioctl --user client close " carol
expect "systemctl is asked first" grep -q -- "--user show" "$WORK/asked"
echo listening >"$WORK/substate"
expect_words "one that would be started is not" "dmioctl --user client close "
printf '#!/bin/sh\nexec sleep 100\n' >"$WORK/bin/systemctl"
expect "a service manager that does not answer is not waited for" \
    test "$(took try "dmioctl --user client close ")" -lt 4000
