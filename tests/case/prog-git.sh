#!/bin/sh
# SPDX-License-Identifier: MIT
# git: clone, commit, worktrees, hooks, alternates, gc; the index's cache of inode numbers and times holds on both
# sides of a view; a restored clone is whole and clean.
. "$(dirname "$0")/lib.sh"

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org \
	GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org GIT_AUTHOR_DATE='2024-01-01 00:00:00Z' \
	GIT_COMMITTER_DATE='2024-01-01 00:00:00Z'

cat >make.sh <<'END'
set -e
git init -q -b main source
cd source
for d in $(seq 20); do
	mkdir "d$d"
	for f in $(seq 10); do
		seq $((d * f)) $((d * f + 200)) >"d$d/f$f"
	done
done
ln -s d1/f1 link
printf '#!/bin/sh\n' >run
chmod +x run
git add -A
git commit -qm one
for i in 1 2 3 4 5; do
	echo $i >>d$i/f$i
	git commit -qam "change $i"
done
git -c pack.threads=1 gc -q
END
cat >work.sh <<'END'
set -e
git clone -q source work
cd work
git config pack.threads 1
git status --porcelain
echo new >d1/f1
echo other >d2/extra
git rm -q d3/f3
git mv d4/f4 d4/g4
printf '#!/bin/sh\necho hook; git rev-parse HEAD >$(git rev-parse --git-dir)/hooked\n' >.git/hooks/pre-commit
chmod +x .git/hooks/pre-commit
git add -A
git commit -qm two
git branch side HEAD~3
git worktree add -q ../tree side
(
	cd ../tree
	echo s >side
	git add side
	git commit -qm side
	git status --porcelain
)
git merge -q -m merge side
git tag -a -m t v1
echo dirty >>d5/f5
git stash -q
git stash pop -q
git checkout -q d5/f5
git clone -q --shared . ../shared
git gc -q --prune=now
git repack -adq
git fsck
git diff-files
git status --porcelain
git log --oneline --graph | cat
git -C ../shared fsck
git -C ../shared status --porcelain
END

# The indexes hold inode numbers and times.
steady_tree()
{
	tree "$@" | grep -v '\.git/.*index$'
}

clean()
{
	for d in "$@"; do
		same "$(git -C "$d" fsck 2>&1)" "" "fsck of $d"
		same "$(git -C "$d" status --porcelain)" "" "status of $d"
	done
}

sh make.sh
say "clone, commit, worktree, merge, stash, gc"
like_native work.sh work tree shared
clean work tree shared source
same "$(git -C work diff-files)" "" "after a status, entries of the index that do not fit"
same "$(cat work/.git/hooked)" "$(git -C work rev-parse v1~2)" "what the hook wrote"

# diff-files compares what the index remembers with what stat says, and never looks at a file's content.
say "an index made outside fits inside, without being written anew, and the other way round"
rm -rf work tree shared
git clone -q source work
# Older than the index: git believes no entry that is as young as the index itself.
find work -name .git -prune -o ! -type d -exec touch -h -d 2020-01-01 {} +
git -C work status --porcelain
index=$(stat -c '%i %Y' work/.git/index)
miss -- sh -c 'cd work && git diff-files && git status --porcelain && git ls-files --debug'
same "$(git -C work ls-files --debug)" "$(cat "$IO/out")" "stat entries"
same "$(stat -c '%i %Y' work/.git/index)" "$index" "the index"
hit -- sh -c 'cd work && git diff-files && git status --porcelain && git ls-files --debug'
miss -- sh -c 'cd work && echo x >d7/f7 && git commit -qam inside && echo y >new && git add new'
same "$(git -C work diff-files)" "" "entries of the index that do not fit outside"
same "$(git -C work status --porcelain)" "A  new"
git -C work commit -qm outside
miss -- sh -c 'cd work && git diff-files && git status --porcelain'
printed ""

say "a hit of the commit restores a repository that goes on"
rm -rf work
git clone -q source work
step -- sh -c 'cd work && echo x >d7/f7 && git commit -qam inside && echo y >new && git add new'
git -C work commit -qm outside
clean work
same "$(git -C work log --format=%s -n 2)" "outside
inside"

say "a fetch over a pipe, and a push into a bare repository"
git clone -q --bare source bare.git
cp -a bare.git bare.saved
cat >push.sh <<'END'
set -e
git clone -q --no-local bare.git other
cd other
git checkout -q -b topic
echo t >topic
git add topic
git commit -qm topic
git push -q origin topic
git -C ../bare.git fsck
git -C ../bare.git log --oneline topic | cat
END
step -- sh push.sh
cp "$IO/out" "$IO/first"
clean other
rm -rf other bare.git
cp -a bare.saved bare.git
hit -- sh push.sh
cmp "$IO/out" "$IO/first"
clean other
same "$(git -C bare.git rev-parse topic)" "$(git -C other rev-parse HEAD)"
