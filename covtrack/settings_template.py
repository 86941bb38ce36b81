"""The commented covtrack.toml that `covtrack init` writes; every setting stands in it once."""

TEMPLATE = """\
# covtrack.toml: what covtrack measures and how. Every line that is commented out shows the
# default. Relative paths count from this file's folder.

# Mirrors, environments, snapshots and (unless `database` is set) the SQLite database.
# Default: the platform's folder for state, such as ~/.local/state/covtrack.
# state = "/var/lib/covtrack"

# database = "sqlite:////var/lib/covtrack/covtrack.sqlite"
# database = "postgresql://covtrack@db.example.org/covtrack"

# Settings that hold for every project that does not set them itself.
[defaults]
# target = 80              # percent of statements
# select = "affected"      # "affected": the tests that a change reaches; "changed": those of
#                          # changed test files; "all": a full run each time
# workers = 8              # test processes side by side; default: one per core
# timeout = "1 h"          # for all tests of one job
# memory = "8 GiB"         # address space of one test process
# python = "3.12"          # any CPython from 3.9 on this machine; default: covtrack's own
# constraints = "upper-constraints.txt"  # path or address; "none" drops those that tox.ini names

# One table per project. Only `git` is needed; tests, requirements, extras, variables and
# constraints are what tox.ini, .stestr.conf, setup.cfg and pyproject.toml say.
#
# [projects."oslo.utils"]
# git = "https://opendev.org/openstack/oslo.utils"   # an address, or the path of a clone
# branch = "master"        # default: the branch that the remote's HEAD names
# test_path = "./oslo_utils/tests"
# top_dir = "./"
# tox_env = "py312"        # whose deps, extras and set_env hold
# requirements = ["more-requirements.txt"]   # files of the project's tree, beside tox's
# extras = ["image-inspection"]
# extra_packages = ["cryptography"]          # what the project's own files forget
# source = ["oslo_utils"]  # default: the project's own coverage settings
# branch_coverage = false  # default: the project's own coverage settings
# recorder = "coverage"    # coverage.py itself; default: sys.monitoring where lines suffice
# vendored = ["oslo_utils/openstack/*"]      # beside what openstack-common.conf names
# serial = ['\\.functional\\.']  # tests that cannot run beside others (regular expressions)
# writable = ["/tmp/shared"]     # folders outside its own tree that the tests may write to
# set_env = { OS_TEST_TIMEOUT = "60" }
"""
