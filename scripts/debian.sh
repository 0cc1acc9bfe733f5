# shellcheck shell=bash
# Sourced by scripts/servers, whose cache, deb_sha256, tell and die it uses: Debian packages without installing them.

# Downloads packages of a Debian release and unpacks them into a directory; installs nothing and leaves the host's apt
# alone: the source list and all of apt's state are the script's own. apt checks the archive's signature, deb_sha256 pins.
fetch_debs() {
  local suite=$1 destination=$2 state="$cache/apt/$1" keyring mirror architecture package lock
  shift 2
  for package in apt-get dpkg; do
    command -v "$package" >/dev/null || die "$* of Debian $suite cannot be fetched without $package" \
      "install the program so that it is on the PATH; for etcd, LIFEBOAT_ETCD_RELEASES may name a directory of unpacked releases"
  done
  architecture=$(dpkg --print-architecture)
  mirror=$(debian_mirror)
  keyring=$(debian_keyring)
  mkdir -p "$state/lists/partial" "$state/archives/partial" "$state/debs"
  exec {lock}>"$state/lock"
  flock "$lock"
  # A release out of support keeps its last, expired index: its signature still holds.
  printf 'deb [arch=%s signed-by=%s check-valid-until=no] %s %s main\n' "$architecture" "$keyring" "$mirror" "$suite" >"$state/sources.list"
  local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$state/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null
    -o "Dir::State=$state" -o "Dir::State::lists=$state/lists" -o "Dir::State::status=$state/status" -o "Dir::Cache=$state"
    -o "APT::Architecture=$architecture" -o "APT::Architectures::=$architecture" -o APT::Default-Release= -o APT::Sandbox::User= -o Acquire::Languages=none -o Acquire::Retries=3
    -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o APT::Update::Error-Mode=any)
  : >"$state/status"
  rm -rf "$state/debs" && mkdir -p "$state/debs"
  tell "Debian $suite" "fetching $*"
  (cd "$state/debs" && "${apt[@]}" update && "${apt[@]}" download "$@") >"$state/log" 2>&1 || {
    cat "$state/log" >&2
    die "$* could not be fetched from Debian $suite" "check the network and the mirror (LIFEBOAT_DEBIAN_MIRROR); is the version still there? see docs/development.md"
  }
  mkdir -p "$destination"
  for package in "$state"/debs/*.deb; do
    check_deb "$package" "$@"
    dpkg -x "$package" "$destination"
  done
  rm -rf "$state/debs"
  exec {lock}>&-
}

# Installs a small Debian into a directory with Debian's own installer, which is fetched as above and not installed either. Needs root.
# What the installer mounts is mounted for it alone, so nothing stays mounted however it ends.
install_debian() {
  local suite=$1 destination=$2 include=$3 tool="$cache/tmp/debootstrap" program
  [ "$(id -u)" = 0 ] || die "Debian $suite can be installed into a directory by root alone" "run as root"
  for program in wget unshare; do
    command -v "$program" >/dev/null || die "Debian $suite cannot be installed into a directory without $program" "install wget and util-linux"
  done
  rm -rf "$tool"
  fetch_debs "$suite" "$tool" debootstrap
  tell "Debian $suite" "installing into $destination, which takes a minute or two"
  DEBOOTSTRAP_DIR="$tool/usr/share/debootstrap" unshare --mount "$tool/usr/sbin/debootstrap" --variant=minbase \
    --keyring="$(debian_keyring)" --include="$include" "$suite" "$destination" "$(debian_mirror)" >"$cache/tmp/debootstrap.log" 2>&1 || {
    tail -n 20 "$cache/tmp/debootstrap.log" >&2
    die "Debian $suite could not be installed into a directory" "check the network and the mirror (LIFEBOAT_DEBIAN_MIRROR); the cache must not lie on a file system mounted nodev or noexec"
  }
  rm -rf "$tool" "$destination"/var/cache/apt/archives/*.deb "$destination"/var/lib/apt/lists/*
}

# A package that was asked for by version must be pinned; one that was not is vouched for by the archive's signature.
check_deb() {
  local file=$1 name version architecture expected
  shift
  name=$(dpkg-deb -f "$file" Package)
  version=$(dpkg-deb -f "$file" Version)
  architecture=$(dpkg-deb -f "$file" Architecture)
  case " $* " in *" $name=$version "*) ;; *" $name "*) return ;; *) die "$name $version came, and nobody asked for it" "look at $file" ;; esac
  expected=$(printf '%s' "$deb_sha256" | awk -v n="$name" -v v="$version" -v a="$architecture" '$1 == n && $2 == v && $3 == a { print $4 }')
  [ -n "$expected" ] || die "no SHA-256 is pinned for $name $version on $architecture" "use LIFEBOAT_ETCD_RELEASES, or add it to scripts/servers"
  printf '%s  %s\n' "$expected" "$file" | sha256sum --check --status || die "$file is not the pinned $name $version" "do not use it; check the mirror"
}

# Prints the Debian archive that this host already uses: one-line lists first, then deb822 files.
debian_mirror() {
  local mirror="" files=() file codename
  if [ -n "${LIFEBOAT_DEBIAN_MIRROR:-}" ]; then
    printf '%s\n' "$LIFEBOAT_DEBIAN_MIRROR"
    return
  fi
  codename=$(. /etc/os-release && [ "${ID:-}" = debian ] && printf '%s' "${VERSION_CODENAME:-}") || codename=""
  if [ -n "$codename" ]; then
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do [ -f "$file" ] && files+=("$file"); done
    [ ${#files[@]} -eq 0 ] || mirror=$(sed -E 's/\[[^]]*\]//' "${files[@]}" | awk -v c="$codename" '
      $1 == "deb" && ($3 == c || $3 ~ /^(stable|oldstable|testing|unstable|sid)$/) && / main( |$)/ { print $2; exit }')
    files=()
    for file in /etc/apt/sources.list.d/*.sources; do [ -f "$file" ] && files+=("$file"); done
    if [ -z "$mirror" ] && [ ${#files[@]} -gt 0 ]; then
      mirror=$(awk -v c="$codename" '
        function flush() { if (!done && suite && main && enabled && uri != "") { print uri; done = 1 } suite = main = 0; enabled = 1; uri = "" }
        BEGIN { enabled = 1 }
        FNR == 1 || /^[[:space:]]*$/ { flush() }
        /^#/ { next }
        /^[A-Za-z-]+:/ { field = tolower($1) }
        { for (i = (/^[A-Za-z-]+:/ ? 2 : 1); i <= NF; i++) {
            if (field == "uris:" && uri == "") uri = $i
            if (field == "suites:" && ($i == c || $i ~ /^(stable|oldstable|testing|unstable|sid)$/)) suite = 1
            if (field == "components:" && $i == "main") main = 1
            if (field == "enabled:" && tolower($i) == "no") enabled = 0 } }
        END { flush() }' "${files[@]}")
    fi
  fi
  [ -n "$mirror" ] || die "no Debian archive in this host's apt sources" "set LIFEBOAT_DEBIAN_MIRROR to the URI of one (on another distribution also install debian-archive-keyring)"
  printf '%s\n' "$mirror"
}

debian_keyring() {
  local keyring
  for keyring in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
    if [ -r "$keyring" ]; then
      printf '%s\n' "$keyring"
      return
    fi
  done
  die "Debian's archive keys are missing" "install the package debian-archive-keyring"
}
