#!/bin/sh
# Fetches texts that others wrote into $1: the FAQs of Perl, Python and Git out of Debian's packages, and the prompts of the chat
# bot ALICE out of the package python-aiml. They are measured with, and are no part of this program.
set -eu
for tool in apt-get dpkg-deb python3; do command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 1; }; done
folder=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$folder"
mkdir -p "$folder"
cd "$work"
apt-get -qq download perl-doc python3-doc git-doc 2>/dev/null || { apt-get -qq update && apt-get -qq download perl-doc python3-doc git-doc; }
version=$(dpkg-deb -f python3-doc_*.deb Depends | sed 's/.*\(python3\.[0-9]*-doc\).*/\1/')
apt-get -qq download "$version" 2>/dev/null
for package in *.deb; do dpkg-deb -x "$package" "$work/files"; done
cp "$work"/files/usr/share/perl/*/pod/perlfaq[1-9].pod "$folder"
cp "$work/files/usr/share/doc/${version%-doc}/html/_sources/faq"/*.rst.txt "$folder"
cp "$work/files/usr/share/doc/git-doc/gitfaq.txt" "$folder"
python3 -m pip -q download --disable-pip-version-check --no-deps --no-binary :all: --no-build-isolation -d "$work/aiml" python-aiml==0.9.3 2>/dev/null ||
    python3 -m pip -q download --disable-pip-version-check --no-deps -d "$work/aiml" python-aiml==0.9.3
mkdir "$folder/alice"
python3 - "$work"/aiml/* "$folder/alice" <<'END'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in archive.namelist():
        if "/botdata/alice/" in name and name.endswith(".aiml"):
            pathlib.Path(sys.argv[2], pathlib.PurePath(name).name).write_bytes(archive.read(name))
END
touch "$folder/complete"
