# shellcheck shell=bash
# What tests/run and tests/demo need of the machine; sourced by both.

readonly PACKAGES=(ca-certificates chromium chromium-driver debootstrap git iproute2 nftables
    prometheus prometheus-node-exporter python3 python3-systemd python3-venv systemd-container tcpdump util-linux)
readonly MASKED=(prometheus prometheus-node-exporter) # for their tools: no daemon is to run here

set_up_machine() {
    ((EUID == 0)) || { echo "cannot run: the lab needs root; run it with sudo" >&2; return 1; }
    [[ $(uname -s) = Linux ]] || { echo "cannot run: this is not Linux" >&2; return 1; }
    install_missing_packages || return
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        { echo "cannot run: the system's Python is older than 3.11" >&2; return 1; }
}

install_missing_packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) = installed ]] ||
            missing+=("$package")
    done
    ((${#missing[@]})) || return 0
    command -v apt-get >/dev/null ||
        { echo "cannot install ${missing[*]}: there is no apt-get here" >&2; return 1; }
    echo "installing packages: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    local install=(apt-get install -qq -y --no-install-recommends "${missing[@]}")
    mask_daemons "${missing[@]}" || return
    apt-get update -qq || return
    "${install[@]}" --download-only >/dev/null || return
    # An interrupted dpkg is a machine that needs repair: Ctrl-C waits for this step to end.
    trap 'exit 130' INT
    (trap '' INT && exec "${install[@]}" >/dev/null) || return
    trap - INT
}

mask_daemons() { # PACKAGES that will be installed: a daemon that was here before is not touched
    local package
    mkdir -p /etc/systemd/system
    for package in "${MASKED[@]}"; do
        [[ " $* " = *" $package "* && ! -e /etc/systemd/system/$package.service ]] || continue
        ln -s -f -n /dev/null "/etc/systemd/system/$package.service"
    done
}
