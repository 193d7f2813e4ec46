#!/usr/bin/env bash
# Installs failover-monitor on a host of a pair, upgrades it, or removes it.
#
# The rule it keeps: at whatever moment it ends, the monitor that ran before is still there and
# still runs, and running it again finishes the work.  So a release is built aside, in a directory
# of its own, and comes into force by one rename; every other file is replaced by a rename, too.
#
# What the host is follows from its configuration.  Where stopping is enforced (a guard, a lease)
# the unit gets a drop-in and units beside it, and every managed unit is ordered after one of them;
# on a primary that drop-in is its gate, too.
# All of these are brought into line each time, so that none outlives its reason.

set -euo pipefail
umask 022
export LC_ALL=C
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

SOURCE="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
readonly SOURCE
readonly HOME_DIR=/opt/failover-monitor
readonly CONFIG="$HOME_DIR/config.json"
readonly RELEASES="$HOME_DIR/releases"
readonly CURRENT="$HOME_DIR/current"
readonly UNIT=failover-monitor.service
readonly UNIT_FILE="/etc/systemd/system/$UNIT"
readonly AGENT=failover-monitor-agent.service
readonly AGENT_FILE="/etc/systemd/system/$AGENT"
readonly LOGROTATE_FILE=/etc/logrotate.d/failover-monitor
readonly COMMAND=/usr/local/bin/failover-monitor
readonly HISTORY=/var/lib/failover-monitor
readonly AGENT_HISTORY=(/var/lib/failover-monitor-agent /var/lib/private/failover-monitor-agent)
readonly LOG=/var/log/failover_monitor.log
readonly RUNTIME=/run/failover-monitor
readonly STATE=/run/failover_monitor_state
readonly BAD_CONFIG=78
readonly UNITS_DIR=/etc/systemd/system
readonly GUARD_FILE="$UNIT_FILE.d/50-guard.conf"
readonly GUARD_UNITS=(failover-monitor-reset.service failover-monitor-again.service
    failover-monitor-order.service)
readonly GATE_NAME=50-failover-monitor-gate.conf
readonly PERMIT="$RUNTIME/permit"

given_config=""
given_role=""
action=install
dry_run=no
purge=no
start=yes

step=0
steps=9
changed=()       # what this run has changed so far, for the last word of a failure
staged=""        # the file under construction
release=""       # the release under construction
previous=""      # the release in force before
python=""        # the operating system's interpreter
systemd=no       # is systemd PID 1 here?
config_good=no
config_said=""   # what `failover-monitor check` found wrong with it
role=""          # as the configuration has it: standby or primary
enforced=no      # do services have to be gone in time here?
told=no          # is anybody to be told, or any figure to be written?
services=()
newly_guarded=no # this run was the first to put enforcement in place

usage() {
    cat <<'USAGE'
usage: install.sh [--role standby|primary] [--config FILE] [--no-start] [--dry-run]
       install.sh --uninstall [--purge] [--dry-run]

Installs failover-monitor on this host, or upgrades it: run it again at any time.
What the host is to be, the standby or a guarded primary, is "role" in its configuration.

  --role ROLE    go on only if the configuration says so, too
  --config FILE  the configuration to install, if none is there yet (default: the example)
  --no-start     install, but neither start nor restart the monitor
  --dry-run      print every step, change nothing
  --uninstall    remove the program; keep config.json, the history, the log
                 and what the agent remembers
  --purge        with --uninstall: remove those as well
  --help         print this
USAGE
}

# ---- saying ---------------------------------------------------------------------------------

begin() { step=$((step + 1)); printf '[%d/%d] %s\n' "$step" "$steps" "$1"; }
say() { printf '      %s\n' "$@"; }
warn() { printf '  !!  %s\n' "$@" >&2; }

fail() { # WHAT HINT [STATUS]
    printf 'install.sh: %s\nhint: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}

wrong_use() {
    printf 'install.sh: %s\n' "$1" >&2
    usage >&2
    exit 2
}

last_word() { # of every ending: nothing half-made is left, and what was changed is said
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    [[ -z $staged ]] || rm -f -- "$staged"
    if [[ -n $release && ! -e $release/complete ]]; then
        rm -rf -- "$release"
        rmdir -- "$RELEASES" "$HOME_DIR" 2>/dev/null || true
    fi
    if ((status > 2 || status == 1)) && [[ $dry_run = no ]]; then
        if ((status > 128)); then
            printf '\ninstall.sh: interrupted\n' >&2
        fi
        if ((${#changed[@]} == 0)); then
            printf 'Nothing on this host was changed.\n' >&2
        else
            printf 'Changed so far: %s.\n' "$(joined "${changed[@]}")" >&2
            printf 'No service was started or stopped; run install.sh again to finish.\n' >&2
        fi
    fi
    exit "$status"
}

joined() { # WORDS, with commas between them
    local all
    all=$(printf '%s, ' "$@")
    printf '%s' "${all%, }"
}

# ---- doing, or in a dry run saying ------------------------------------------------------------

run() {
    if [[ $dry_run = yes ]]; then
        say "would run: $*"
    else
        "$@"
    fi
}

place() { # MODE SOURCE TARGET: the whole file or none of it
    local mode=$1 source=$2 target=$3
    if [[ -f $target ]] && cmp -s -- "$source" "$target"; then
        say "$target: unchanged"
        return
    fi
    if [[ $dry_run = yes ]]; then
        say "would write $target (mode $mode)"
        return
    fi
    mkdir -p -- "$(dirname -- "$target")"
    staged="$(dirname -- "$target")/.$(basename -- "$target").new"
    cat -- "$source" >"$staged" || fail "cannot write $target" "is the disk full, or read-only?"
    chmod "$mode" -- "$staged"
    mv -f -T -- "$staged" "$target"
    staged=""
    changed+=("$target")
    say "$target: written"
}

put_in_force() { # RELEASE
    staged="$HOME_DIR/.current.new"
    ln -s -f -n -- "$1" "$staged"
    mv -f -T -- "$staged" "$CURRENT"
    staged=""
}

# ---- the steps of an installation -------------------------------------------------------------

look_at_host() {
    begin "looking at this host"
    [[ $(uname -s) = Linux ]] || fail "cannot install: this is not Linux" "use a Linux host"
    command -v systemctl >/dev/null ||
        fail "cannot install: there is no systemctl here" "the monitor moves systemd services"
    [[ ! -d /run/systemd/system ]] || systemd=yes
    local file
    for file in failover_monitor/__init__.py requirements.lock config.json $UNIT $AGENT \
        failover-monitor.logrotate failover-monitor-guard.conf failover-monitor-gate.conf \
        failover-monitor-order.conf \
        "${GUARD_UNITS[@]}"; do
        [[ -r $SOURCE/$file ]] ||
            fail "cannot install: $SOURCE/$file is missing" "run install.sh from a whole checkout"
    done
    [[ -z $given_config || -r $given_config ]] ||
        fail "cannot read '$given_config'" "--config names the configuration to install"
    version=$(sed -n 's/^__version__ = "\([0-9A-Za-z.+-]*\)"$/\1/p' \
        "$SOURCE/failover_monitor/__init__.py")
    [[ -n $version ]] || fail "cannot install: no version in the source" "take a whole checkout"
    local name=unknown id=unknown
    if [[ -r /etc/os-release ]]; then
        name=$(sed -n 's/^PRETTY_NAME="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
        id=$(sed -n 's/^ID="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' /etc/os-release)
    fi
    say "$name, $(uname -m); failover-monitor $version"
    case $id in
        debian | ubuntu) ;;
        *) warn "'$id' is untested: the steps are written for it, but were never seen to work" ;;
    esac
    if [[ $systemd = no ]]; then
        warn "systemd is not running here: everything is installed, and nothing is started"
    fi
}

recent() { "$1" -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
equipped() { "$1" -I -c 'import ensurepip, venv, systemd.daemon, systemd.journal' 2>/dev/null; }

choose_python() { # the first that has everything, else the first that is recent enough
    local candidate found=""
    for candidate in /usr/bin/python3 /usr/bin/python3.1{4,3,2,1}; do
        if [[ ! -x $candidate ]] || ! recent "$candidate"; then continue; fi
        found=${found:-$candidate}
        if equipped "$candidate"; then
            python=$(readlink -f -- "$candidate")
            return 0
        fi
    done
    python=${found:+$(readlink -f -- "$found")}
    return 1
}

add_packages() {
    begin "operating system packages: Python 3.11 or later, venv, python3-systemd"
    if choose_python; then
        say "all there already: $("$python" --version) ($python)"
    else
        if command -v apt-get >/dev/null; then
            run env DEBIAN_FRONTEND=noninteractive apt-get update -q 9<&- ||
                fail "cannot update the package lists" "see what apt-get says above"
            run env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
                python3 python3-venv python3-systemd 9<&- ||
                fail "cannot install packages" "see what apt-get says above"
        elif command -v dnf >/dev/null; then
            run dnf install -y python3 python3-pip python3-systemd 9<&- ||
                fail "cannot install packages" "see what dnf says above"
        else
            fail "cannot install packages: neither apt-get nor dnf is here" \
                "install Python 3.11 or later with venv and its systemd module, then run this again"
        fi
        if [[ $dry_run = no ]]; then
            changed+=("operating system packages")
            choose_python || without_python
        fi
    fi
    command -v logrotate >/dev/null ||
        warn "logrotate is not installed: $LOG will grow; install it when convenient"
}

without_python() {
    if [[ -z $python ]]; then
        fail "cannot install: this system's Python is older than 3.11" \
            "use Debian 12, Ubuntu 24.04 or later"
    fi
    fail "cannot install: $python has no venv or no systemd module" \
        "python3-systemd is built for this system's own python3 only, which must be 3.11 or later"
}

build_release() {
    local number=1 leftover
    begin "creating the virtual environment"
    for leftover in "$RELEASES"/*/; do
        if [[ ! -d $leftover || -e ${leftover}complete ]]; then continue; fi
        say "removing $leftover, which was never finished"
        run rm -rf -- "$leftover"
    done
    while [[ -e $RELEASES/$version-$number ]]; do number=$((number + 1)); done
    local target="$RELEASES/$version-$number"
    say "in $target"
    if [[ $dry_run = no ]]; then release=$target; fi
    run mkdir -p -- "$target"
    run "${python:-python3}" -I -m venv --system-site-packages "$target/venv" ||
        fail "cannot create a virtual environment in $target" "see above; is the disk full?"

    begin "installing the locked libraries"
    run "$target/venv/bin/python" -I -m pip install --quiet --disable-pip-version-check --no-input \
        --require-hashes --only-binary :all: --ignore-installed -r "$SOURCE/requirements.lock" ||
        fail "cannot install the libraries of requirements.lock" \
            "see what pip says above; without a network set PIP_NO_INDEX=1 and PIP_FIND_LINKS=DIR"

    begin "installing failover-monitor $version"
    if [[ $dry_run = yes ]]; then
        say "would copy $SOURCE/failover_monitor into $target and compile it"
        return
    fi
    local site
    site=$("$release/venv/bin/python" -I -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp -R --no-preserve=all -- "$SOURCE/failover_monitor" "$site/" ||
        fail "cannot copy the program into $site" "is the disk full?"
    find "$site/failover_monitor" -name __pycache__ -prune -exec rm -rf {} +
    "$release/venv/bin/python" -I -m compileall -q "$site/failover_monitor" ||
        fail "cannot compile the program" "is the checkout whole?"
    (cd / && "$release/venv/bin/python" -I -c 'import failover_monitor.cli, failover_monitor.daemon') ||
        fail "cannot load the program that was just installed" "see the error above"
    : >"$release/complete"
    say "done"
}

keep_or_place_config() {
    begin "configuration"
    if [[ -e $CONFIG ]]; then
        say "$CONFIG: kept as it is"
        [[ -z $given_config ]] || warn "'$given_config' was not installed: there is one already"
        if [[ -z $given_config ]] && ! cmp -s "$SOURCE/config.json" "$CONFIG"; then
            say "$SOURCE/config.json is another one, and is not used"
        fi
        return
    fi
    place 0640 "${given_config:-$SOURCE/config.json}" "$CONFIG"
}

validate_config() {
    begin "validating $CONFIG"
    if [[ $dry_run = yes ]]; then
        say "would run: failover-monitor check $CONFIG"
        return
    fi
    local status=0
    config_said=$(cd / && "$release/venv/bin/python" -I -m failover_monitor check "$CONFIG" 2>&1) ||
        status=$?
    if ((status == 0)); then
        config_good=yes
        say "good"
        readable_in_sandbox ||
            fail "cannot go on: the monitor runs without the right to read $CONFIG" \
                "chown root:root $CONFIG; then run install.sh again" "$BAD_CONFIG"
        take_policy
        agree_on_role
        look_at_services
        look_at_watchdog
        return
    fi
    printf '%s\n' "$config_said" | sed 's/^/      /' >&2
    ((status == BAD_CONFIG)) ||
        fail "cannot validate: the program that was just built fails (status $status)" \
            "see the error above; the release before it is still in force"
}

readable_in_sandbox() { # root as the unit has it: owner of its own files, and no more than that
    ! command -v setpriv >/dev/null ||
        setpriv --bounding-set=-all -- cat -- "$CONFIG" >/dev/null 2>&1
}

take_policy() { # from the program itself, which alone knows how to read its file
    local said
    said=$("$release/venv/bin/python" -I - "$CONFIG" <<'PYTHON'
import sys
from pathlib import Path

from failover_monitor import config

found = config.load(Path(sys.argv[1]))
policy = found.policy
role = getattr(policy, "role", "standby")
enforced = getattr(policy, "enforced", False)
told = found.notify or found.metrics
print(role, *("yes" if it else "no" for it in (enforced, told)), *policy.services, sep="\n")
PYTHON
    ) || fail "cannot read the policy in $CONFIG" "see the error above"
    mapfile -t services <<<"$said"
    role=${services[0]}
    enforced=${services[1]}
    told=${services[2]}
    services=("${services[@]:3}")
    if [[ $role = primary ]]; then
        say "this host is the primary, and is guarded"
    elif [[ $enforced = yes ]]; then
        say "this host is the standby; services that must stop are killed, or this host is reset"
    else
        say "this host is the standby"
    fi
}

agree_on_role() {
    [[ -n $given_role && $given_role != "$role" ]] || return 0
    local hint="add \"role\": \"primary\" to $CONFIG, then run install.sh again"
    if [[ $given_role = standby ]]; then
        hint="take \"role\": \"primary\" out of $CONFIG, or install without --role standby"
    fi
    fail "cannot go on: --role $given_role, but $CONFIG is a $role's" "$hint" "$BAD_CONFIG"
}

look_at_services() {
    local service found
    for service in "${services[@]}"; do
        found=$(systemctl is-enabled -- "$service" 2>/dev/null) || true
        case $role:$found in
            primary:enabled | primary:enabled-runtime)
                say "$service is enabled at boot: the gate holds it back, the guard starts it"
                ;;
            standby:enabled | standby:enabled-runtime)
                warn "$service is ENABLED AT BOOT here: this standby would start it beside the primary." \
                    "Only the monitor may start it: systemctl disable $service"
                ;;
            *:masked | *:masked-runtime)
                warn "$service is MASKED here: the monitor could not start it." \
                    "To cure that: systemctl unmask $service"
                ;;
            primary: | primary:not-found)
                fail "cannot go on: $service does not exist on this primary" \
                    "install it, or take it out of services_to_manage in $CONFIG"
                ;;
            standby: | standby:not-found)
                warn "$service DOES NOT EXIST here: a takeover could not start it."
                ;;
        esac
    done
}

look_at_watchdog() { # what is beyond systemd's reach
    if [[ $enforced = no || $systemd = no ]]; then return; fi
    local cure="RuntimeWatchdogSec=10 in /etc/systemd/system.conf; systemctl daemon-reexec"
    local limit
    limit=$(systemctl show --value --property=RuntimeWatchdogUSec) || true
    if [[ ! -c /dev/watchdog ]]; then
        warn "there is no /dev/watchdog: a frozen kernel is not covered, nor a disk that hangs." \
            "A hardware watchdog (or a virtual one) covers both: $cure"
    else
        case $limit in
            "" | 0 | infinity)
                warn "RuntimeWatchdogSec is off: a frozen kernel is not covered, nor a disk that hangs." \
                    "To cure that: $cure"
                ;;
        esac
    fi
}

bring_into_force() {
    begin "command, unit, log rotation"
    if [[ -L $CURRENT ]]; then previous=$(readlink -f -- "$CURRENT"); fi
    if [[ $dry_run = yes ]]; then
        say "would point $CURRENT at the new release"
        say "would write $COMMAND (mode 0755)"
    else
        put_in_force "$release"
        changed+=("$CURRENT")
        command_text >"$release/command"
        place 0755 "$release/command" "$COMMAND"
    fi
    place 0644 "$SOURCE/$UNIT" "$UNIT_FILE"
    place 0644 "$SOURCE/$AGENT" "$AGENT_FILE"
    place 0644 "$SOURCE/failover-monitor.logrotate" "$LOGROTATE_FILE"
    enforce
    reload_systemd
}

reload_systemd() {
    if [[ $systemd = yes ]]; then
        run systemctl daemon-reload || fail "cannot reload systemd" "try: systemctl daemon-reload"
    fi
}

# ---- where stopping is enforced -----------------------------------------------------------------

enforce() { # put in place what this host's role asks for, and take away what it does not
    local unit
    if [[ $dry_run = yes && $config_good = no ]]; then
        say "would place or remove, as the configuration asks: $GUARD_FILE," \
            "  ${GUARD_UNITS[*]}; a drop-in in $UNITS_DIR/SERVICE.d/ for each service"
        return
    fi
    if [[ $config_good = no ]]; then return; fi
    remove_gates "$([[ $enforced = yes ]] && printf '%s\n' "${services[@]}")"
    if [[ $enforced = no ]]; then
        remove_guard
        return
    fi
    if [[ ! -e $GUARD_FILE ]]; then
        newly_guarded=yes
        leave_open
    fi
    for unit in "${GUARD_UNITS[@]}"; do
        place 0644 "$SOURCE/$unit" "$UNITS_DIR/$unit"
    done
    place 0644 "$SOURCE/failover-monitor-guard.conf" "$GUARD_FILE"
    place_gates
}

place_gates() { # on a standby it only orders: there nothing but the monitor starts a service
    local unit gate=failover-monitor-gate.conf
    if [[ $role = standby ]]; then gate=failover-monitor-order.conf; fi
    for unit in "${services[@]}"; do
        place 0644 "$SOURCE/$gate" "$UNITS_DIR/$unit.d/$GATE_NAME"
    done
}

leave_open() { # for what runs when the first gates come: it may crash before a guard is there
    local unit
    if [[ $systemd = no || $role != primary ]]; then return; fi
    for unit in "${services[@]}"; do
        case $(systemctl show --value --property=ActiveState -- "$unit") in
            active | activating | reloading)
                mkdir -p -- "$RUNTIME"
                : >"$PERMIT"
                say "services run here: the gate is open until the guard decides"
                return
                ;;
        esac
    done
}

remove_gates() { # [UNITS]: all but theirs, one a line
    local gate unit
    for gate in "$UNITS_DIR"/*.d/"$GATE_NAME"; do
        [[ -e $gate ]] || continue
        unit=$(basename -- "${gate%/*}" .d)
        if ! grep -q -x -F -- "$unit" <<<"${1:-}"; then
            remove "$gate"
            run rmdir --ignore-fail-on-non-empty -- "${gate%/*}"
        fi
    done
}

remove_guard() {
    local directory=${GUARD_FILE%/*}
    remove "$GUARD_FILE" "${GUARD_UNITS[@]/#/$UNITS_DIR/}"
    if [[ -d $directory ]]; then run rmdir --ignore-fail-on-non-empty -- "$directory"; fi
    lower_flags
}

lower_flags() { # those that mean nothing in this role, and would mean too much in a later one
    [[ $role = primary ]] || remove "$PERMIT"
    [[ $enforced = yes ]] || remove "$RUNTIME/armed"
}

command_text() {
    cat <<'COMMAND'
#!/bin/sh
# Made by install.sh.  The release is looked up once: an upgrade must not change a running monitor.
release=$(readlink -f /opt/failover-monitor/current) || exit 1
exec "$release/venv/bin/python" -I -m failover_monitor "$@"
COMMAND
}

start_monitor() {
    local how=start
    begin "starting the monitor"
    if [[ $dry_run = yes ]]; then
        if [[ $start = no ]]; then
            say "would not start it: --no-start"
        else
            say "would run, if the configuration is good: systemctl enable $UNIT;" \
                "  systemctl restart $UNIT"
        fi
        return
    fi
    if [[ $config_good = no ]]; then
        tell_about_config
        return
    fi
    if [[ $systemd = no ]]; then
        say "not started: systemd does not run here.  What is left to do, once it does:" \
            "  systemctl daemon-reload" "  systemctl enable --now failover-monitor"
        [[ $told = no ]] || say "  systemctl enable --now failover-monitor-agent"
        return
    fi
    if systemctl is-active --quiet "$UNIT"; then how=restart; fi
    if [[ $start = no ]]; then
        say "left alone, as --no-start asks.  To ${how} it: systemctl $how failover-monitor"
        [[ $role != primary ]] ||
            warn "a gate that nobody opens holds the services: enable the monitor before a reboot"
        return
    fi
    systemctl enable --quiet "$UNIT" ||
        fail "cannot enable $UNIT" "is it masked? systemctl unmask failover-monitor"
    changed+=("$UNIT enabled")
    systemctl "$how" "$UNIT" || go_back "$how"
    lower_flags # once more: until now the monitor before may have raised them
    start_agent
    remove_old_releases
    say "it runs: systemctl status failover-monitor; failover-monitor status"
}

start_agent() { # after the monitor, and whatever becomes of it the monitor runs on
    if [[ $told = no ]]; then
        if [[ $(systemctl is-enabled "$AGENT" 2>/dev/null) = enabled ]]; then
            systemctl disable --quiet --now "$AGENT" || warn "cannot disable $AGENT"
            say "nobody is to be told any more: $AGENT is off"
        fi
        return
    fi
    changed+=("$AGENT enabled")
    if systemctl enable --quiet "$AGENT" && systemctl restart "$AGENT"; then
        say "$AGENT runs; try it: failover-monitor agent --test"
    else
        warn "the monitor runs, but nobody is told: $AGENT does not start" \
            "journalctl -u failover-monitor-agent -n 50"
    fi
}

still_the_example() { # SAID: whether nothing else is wrong; lines of the file are indented
    [[ $(grep '^[^ ]' <<<"$1" | grep -vc ' is still the example; ') = 0 ]]
}

tell_about_config() {
    if still_the_example "$config_said"; then
        say "not started: $CONFIG is still the example.  Edit it, then:" \
            "  failover-monitor check" "  systemctl enable --now failover-monitor" \
            "For a primary, a guard or a lease run install.sh once more instead: it sees to the rest."
        return
    fi
    fail "installed, but not started: $CONFIG is not good" \
        "mend what is told above, try 'failover-monitor check', then run install.sh again" \
        "$BAD_CONFIG"
}

go_back() { # START|RESTART: the new release does not come up, so the one before serves on
    if [[ $newly_guarded = yes ]]; then # a gate that nobody opens would hold the services for ever
        role="" enforced=no
        remove_gates
        remove_guard
        reload_systemd
    fi
    if [[ -n $previous && -e $previous/complete && $previous != "$release" ]]; then
        put_in_force "$previous"
        systemctl reset-failed "$UNIT" || true # its failures must not count against this one
        systemctl "$1" "$UNIT" || true
        fail "the new release did not start; $previous is in force again" \
            "journalctl -u failover-monitor -n 50"
    fi
    fail "the monitor did not start" "journalctl -u failover-monitor -n 50"
}

remove_old_releases() {
    local old
    for old in "$RELEASES"/*/; do
        [[ ${old%/} = "$release" ]] || rm -rf -- "$old"
    done
}

# ---- removing ---------------------------------------------------------------------------------

remove() { # PATHS
    local path
    for path in "$@"; do
        [[ -e $path || -L $path ]] || continue
        run rm -rf -- "$path" || fail "cannot remove $path" "is the file system read-only?"
        if [[ $dry_run = no ]]; then
            changed+=("$path removed")
            say "$path: removed"
        fi
    done
}

uninstall() {
    local kept
    steps=3
    if [[ $purge = yes ]]; then steps=4; fi
    [[ ! -d /run/systemd/system ]] || systemd=yes
    begin "stopping the monitor; the services it manages are left as they are"
    remove_gates # first of all: from here on nothing that happens may hold a service back,
    remove_guard # or reset this host
    if [[ -e $UNIT_FILE ]]; then reload_systemd; fi
    if [[ -e $UNIT_FILE ]]; then
        run systemctl disable --quiet "$UNIT" || warn "cannot disable $UNIT"
        if [[ $systemd = yes ]]; then
            run systemctl stop "$UNIT" || fail "cannot stop $UNIT" "systemctl status $UNIT"
        fi
    fi
    if [[ -e $AGENT_FILE ]]; then
        run systemctl disable --quiet "$AGENT" || warn "cannot disable $AGENT"
        if [[ $systemd = yes ]]; then run systemctl stop "$AGENT" || warn "cannot stop $AGENT"; fi
    fi
    begin "unit, command, log rotation"
    remove "$UNIT_FILE" "$AGENT_FILE" "$COMMAND" "$LOGROTATE_FILE"
    if [[ $systemd = yes ]]; then run systemctl daemon-reload; fi
    begin "program"
    remove "$CURRENT" "$RELEASES" "$RUNTIME" "$STATE"
    if [[ $purge = yes ]]; then
        begin "configuration, history and log"
        remove "$CONFIG" "$HISTORY" "${AGENT_HISTORY[@]}" "$LOG" "$LOG".*
    else
        kept=("$CONFIG" "$HISTORY" "$LOG")
        [[ ! -e ${AGENT_HISTORY[0]} ]] || kept+=("${AGENT_HISTORY[0]}")
        say "kept: $(joined "${kept[@]}")"
    fi
    if [[ -d $HOME_DIR ]]; then run rmdir --ignore-fail-on-non-empty -- "$HOME_DIR"; fi
}

# ---- the whole ----------------------------------------------------------------------------------

read_options() {
    while (($#)); do
        case $1 in
            --config)
                (($# > 1)) || wrong_use "--config needs a file"
                given_config=$2
                shift
                ;;
            --config=*) given_config=${1#*=} ;;
            --role)
                (($# > 1)) || wrong_use "--role needs standby or primary"
                given_role=$2
                shift
                ;;
            --role=*) given_role=${1#*=} ;;
            --dry-run) dry_run=yes ;;
            --no-start) start=no ;;
            --uninstall) action=uninstall ;;
            --purge) purge=yes ;;
            --help | -h)
                usage
                exit 0
                ;;
            *) wrong_use "unknown option '$1'" ;;
        esac
        shift
    done
    [[ $purge = no || $action = uninstall ]] || wrong_use "--purge goes with --uninstall"
    case $given_role in
        "" | standby | primary) ;;
        *) wrong_use "--role is standby or primary, not '$given_role'" ;;
    esac
    [[ -z $given_role || $action = install ]] || wrong_use "--role does not go with --uninstall"
    [[ -z $given_config || $action = install ]] || wrong_use "--config does not go with --uninstall"
}

be_alone() { # the lock is /opt itself: nothing is left behind that would have to be removed
    if [[ $dry_run = yes ]]; then return; fi
    ((EUID == 0)) || fail "cannot install: you are not root" "sudo $0"
    mkdir -p /opt
    exec 9</opt
    flock --nonblock 9 || fail "cannot go on: another install.sh is at work" "wait for its end"
}

main() {
    read_options "$@"
    trap last_word EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap 'exit 129' HUP
    be_alone
    if [[ $action = uninstall ]]; then
        uninstall
        if [[ $dry_run = yes ]]; then say "dry run: nothing was changed"; fi
        return
    fi
    look_at_host
    add_packages
    build_release
    keep_or_place_config
    validate_config
    bring_into_force
    start_monitor
    if [[ $dry_run = yes ]]; then say "dry run: nothing was changed"; fi
}

main "$@"
