# make: parallel jobs, pattern rules, errors
# needs: make
cat > Makefile <<'EOF'
all: a b c
	@echo all done $(words $^)
%: %.in
	@cp $< $@; echo made $@
X := $(shell echo shelled)
p:
	@echo $(X)
bad:
	@exit 3
EOF
touch a.in b.in c.in
make -j4 | sort
make p
make bad
echo $?
make -n all
