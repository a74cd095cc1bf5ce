# Sourced by train.sh and sweep.sh: finds the training images of a config.
# shellcheck shell=bash

# Names of FER2013 as people download it: the notebook's, Kaggle's data set, Kaggle's competition.
KNOWN=()
for name in my_emotion_train fer2013 icml_face_data train; do
  KNOWN+=("$name.csv" "$name.csv.gz" "$name.csv.zip")
done
KNOWN+=(fer2013.zip archive.zip)

# Prints data.train of a config, and `usage` if its data.validation is a Usage. A config may write a
# key in any way that TOML allows, so a TOML parser reads it: Python's, which scripts/setup.sh
# requires anyway (in Python 3.10, that of pip). Grimace needs no command for this alone.
read_config() {
  local python=${PYTHON:-python3}
  [ ! -x .venv/bin/python ] || python=.venv/bin/python
  command -v "$python" >/dev/null || { echo "Python 3 not found: using $1 as it is" >&2; return 1; }
  "$python" - "$1" 2>/dev/null <<'PYTHON'
import sys
try:
    import tomllib
except ImportError:
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], encoding="utf-8-sig") as file:
    data = tomllib.loads(file.read())["data"]
validation = data.get("validation", 0.2)
is_usage = isinstance(validation, str) and not any(mark in validation for mark in "/.\\")
print(data["train"], "usage" if is_usage else "", sep="\n")
PYTHON
}

# Adds `--set data.train=$1`, and `--set data.test=...` for the test file that comes with it. Files
# with a column Usage have none: data.test stays, and nothing reads it if it does not exist.
use_file() {
  local test='' ending
  data=(--set "data.train=$1")
  case $1 in
    */my_emotion_train.*) test=${1%%my_emotion_train.*}my_emotion_test.csv ;;
    */train.*) test=${1%%train.*}test.csv ;;
  esac
  for ending in '' .gz .zip; do
    if [ -n "$test" ] && [ -e "$test$ending" ]; then
      data+=(--set "data.test=$test$ending")
      return 0
    fi
  done
}

# Makes 20% of the rows the validation rows of a config that validates on a Usage ($2 is not empty), if
# the file $1 has no column Usage and the arguments $3 do not set data.validation. Sets `split`.
use_fraction() {
  case $1 in
    */my_emotion_train.*|*/train.*) ;;
    *) return 0 ;;
  esac
  if [ -n "$2" ] && [[ " $3 " != *data.validation=* ]]; then
    data+=(--set data.validation=0.2)
    split="; it has no column Usage, so 20% of its rows are the validation rows"
  fi
}

# The first line of a CSV, also of a compressed one; nothing of a file that is neither.
first_line() {
  case $1 in
    *.csv|*.tsv) head -c 4096 "$1" ;;
    *.gz) gzip -cd "$1" 2>/dev/null | head -c 4096 ;;
    *.zip) unzip -p "$1" 2>/dev/null | head -c 4096 ;;
  esac | tr '\r' '\n' | head -n 1
}

# CSV files in data/ whose names are not known and that have labeled images: the columns emotion and
# pixels.
other_files() {
  local file line
  for file in data/*.csv data/*.csv.gz data/*.csv.zip data/*.tsv; do
    [ -f "$file" ] || continue
    line=$(first_line "$file" | tr '[:upper:]' '[:lower:]' || true)
    [[ $line != *emotion* || $line != *pixels* ]] || printf '%s\n' "$file"
  done
}

# Generates synthetic/, unless it is there. It gets its name when it is complete.
make_synthetic() {
  [ ! -e synthetic/my_emotion_train.csv ] || return 0
  if [ -e synthetic ]; then
    echo "synthetic/ has no my_emotion_train.csv; move it away, so that it can be generated" >&2
    return 2
  fi
  target/release/grimace data synth --out synthetic.partial --force >&2
  mv synthetic.partial synthetic
}

# find_data TARGET CONFIG WHAT ARGUMENTS...
#
# Sets the array `data` to the options that make CONFIG train on the images that exist: its own
# data.train, or else the first known file in data/, or else synthetic images. Reports the choice as
# "WHAT on FILE". Does nothing if ARGUMENTS set data.train, or if CONFIG names a missing file
# elsewhere than in data/: grimace reports that. TARGET is the make target.
find_data() {
  local target=$1 config=$2 what=$3 own usage name file='' split='' others
  shift 3
  data=()
  [[ " $* " != *data.train=* ]] || return 0
  own=$(read_config "$config") || return 0
  usage=${own##*$'\n'} own=${own%%$'\n'*}
  [ "$usage" = usage ] || usage=''
  if [ -e "$own" ]; then
    echo "$what on $own" >&2
    return 0
  fi
  [[ $own == data/* || $own == ./data/* ]] || return 0
  for name in "${KNOWN[@]}"; do
    if [ -f "data/$name" ]; then
      file=data/$name
      break
    fi
  done
  if [ -n "$file" ]; then
    use_file "$file"
    use_fraction "$file" "$usage" "$*"
    echo "$what on $file, because $own does not exist$split" >&2
    return 0
  fi
  echo "data/ has none of the known files: my_emotion_train.csv, fer2013.csv, icml_face_data.csv or train.csv" \
    "(also as .csv.gz or .csv.zip), fer2013.zip, archive.zip" >&2
  others=$(other_files)
  while read -r file; do
    [ -z "$file" ] || echo "to train on $file: make $target ARGS='--set \"data.train=$file\"'" >&2
  done <<<"$others"
  file=synthetic/my_emotion_train.csv
  make_synthetic || return
  use_file "$file"
  use_fraction "$file" "$usage" "$*"
  echo "$what on synthetic images in synthetic/, not on real ones$split" >&2
}
