# The two commands of the README, and what they are made of.
.PHONY: test
test:
	cargo test --locked
