# git: a repository's life
# needs: git
git init -q r 2>/dev/null
cd r
git config user.email a@b
git config user.name n
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
for i in $(seq 20); do echo $i > f$i; git add .; git commit -qm c$i; done
git log --oneline | head -3
git checkout -qb br
seq 1000 > big
git add .
git commit -qm big
git checkout -q -
git merge -q br
git diff HEAD~1 --stat
git gc -q
git fsck 2>&1
git clone -q . ../c
ls ../c | wc -l
git status -s
git stash list
git rebase -q HEAD~3
git tag t
git archive t | tar t | wc -l
git grep -c 99
git bisect start -q 2>/dev/null
git rev-parse HEAD
git format-patch -1 --stdout | head -1
git worktree add -q ../w br2 -b br2 2>/dev/null
git submodule status
git blame f1 | cut -c1-8
