#!/bin/sh
# Puts Debian's kannel and the libraries it lacks here into a folder, without root and without installing anything.
# usage: fetch_kannel.sh FOLDER; afterwards FOLDER/run bearerbox|smsbox ARGUMENTS... runs its programs.
set -eu

folder=$1
[ -e "$folder/run" ] && exit 0

# With lists of its own: to refresh the machine's needs root, and old ones name versions that are gone.
apt() {
    apt-get -o Dir::State::Lists="$folder/lists" -o Dir::Cache="$folder/cache" "$@"
}

mkdir -p "$folder/packages" "$folder/lists/partial" "$folder/cache/archives/partial"
if ! (PATH="$PATH:/usr/sbin" && command -v bearerbox >/dev/null); then
    apt update >&2
    # What an installation would add to this machine, kannel itself among it. A simulation needs no rights.
    packages=$(apt --simulate --no-install-recommends install kannel | awk '/^Inst / { print $2 }')
    # shellcheck disable=SC2086 # a list of words
    (cd "$folder/packages" && apt download $packages >&2)
    for package in "$folder"/packages/*.deb; do
        dpkg -x "$package" "$folder/root"
    done
fi

cat > "$folder/run.new" <<'RUN'
#!/bin/sh
# Runs one of kannel's programs with the libraries beside it.
root=$(cd "$(dirname "$0")" && pwd)/root
for libraries in "$root"/usr/lib/*-linux-gnu "$root"/lib/*-linux-gnu; do
    LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$libraries"
done
export LD_LIBRARY_PATH
program=$1
shift
PATH="$root/usr/sbin:$PATH:/usr/sbin"
exec "$program" "$@"
RUN
chmod +x "$folder/run.new"
"$folder/run.new" bearerbox --version >/dev/null
mv "$folder/run.new" "$folder/run"
