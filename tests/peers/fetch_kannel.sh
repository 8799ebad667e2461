#!/bin/sh
# Puts Debian's kannel and the libraries it lacks here into a folder, without root and without installing anything.
# usage: fetch_kannel.sh FOLDER; afterwards FOLDER/run bearerbox|smsbox ARGUMENTS... runs its programs.
set -eu

folder=$1
[ -e "$folder/run" ] && exit 0

# What an installation would add to this machine, kannel itself among it. A simulation needs no rights.
wanted() {
    apt-get --simulate --no-install-recommends install kannel 2>/dev/null | awk '/^Inst / { print $2 }'
}

mkdir -p "$folder/packages"
packages=$(wanted)
if [ -z "$packages" ]; then
    apt-get update >&2
    packages=$(wanted)
fi
if [ -z "$packages" ] && ! command -v bearerbox >/dev/null; then
    echo "kannel is not among this machine's Debian packages" >&2
    exit 1
fi

if [ -n "$packages" ]; then
    # shellcheck disable=SC2086 # a list of words
    # Lists that are old name versions that are gone.
    (cd "$folder/packages" && { apt-get download $packages >&2 || { apt-get update && apt-get download $packages; } >&2; })
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
