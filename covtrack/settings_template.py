"""The commented covtrack.toml that `covtrack init` writes; every setting stands in it once."""

TEMPLATE = """\
# covtrack.toml: what covtrack measures and how. Every line that is commented out shows the
# default. Relative paths count from this file's folder.

# Mirrors, environments, snapshots and (unless `database` is set) the SQLite database.
# Default: the platform's folder for state, such as ~/.local/state/covtrack.
# state = "/var/lib/covtrack"

# database = "sqlite:////var/lib/covtrack/covtrack.sqlite"
# database = "postgresql://covtrack@db.example.org/covtrack"

# Where browsers find `covtrack serve`, for links in what it posts and for its plugin in Gerrit.
# url = "https://covtrack.example.org"

# Where `covtrack serve` listens (webhooks, coverage for Gerrit's pages, health), and how many
# jobs it runs side by side, each of another project.
# listen = "127.0.0.1:8080"
# executors = 1

# How often the mirrors fetch all that the servers have: branches, tags, notes, reviews.
# mirror_every = "1 h"

# Wheels for the environments, beside the package index or (index = false) instead of it: a
# folder that `venv-builder wheels` fills, or the address of a page of links.
# wheels = "/srv/covtrack/wheels"
# index = true

# Where jobs run: in processes of `covtrack serve`, or as builds on Jenkins (docs/jenkins.rst).
# executor = "local"       # or "jenkins"; a project may say otherwise

# What `covtrack gc`, and `covtrack serve` once a day, keeps of the snapshots. Figures are kept.
# [keep]
# baselines = 20           # the newest of each branch
# weeks = 52               # before them, one of each week
# changes = 30             # days; those of open changes are kept in any case
# logs = 30                # days, of jobs' logs and of events
# pack = 2                 # days without use, after which a kept snapshot is compressed
# environments = 14        # days without a job, after which an environment is removed
# outcomes = 90            # days, of which tests passed; counts and failures stay

# The Jenkins whose agents measure. `covtrack jenkins install` makes its job.
# [jenkins]
# url = "https://jenkins.example.org"
# user = "covtrack"
# token_env = "COVTRACK_JENKINS_TOKEN"   # the variable with the API token
# job = "covtrack"         # or "folder/covtrack"
# label = "covtrack"       # of the agents
# tracker = "https://covtrack.example.org"   # where agents reach covtrack serve; default: url
# command = "covtrack step"                  # as the agents' shell finds it
# most_builds = 8          # queued or running at once
# most_of_project = 2      # of them of one project
# queue_patience = "6 h"   # a build that waits longer is cancelled and tried again
# every = "3 s"            # how often Jenkins is asked
# timeout = "30 s"         # of one request
# keep_builds = 200        # that Jenkins keeps

# Gerrit servers. The HTTP password (Settings > HTTP Credentials) is never in this file.
# [gerrit.opendev]
# url = "https://review.opendev.org"
# ssh = "ssh://covtrack@review.opendev.org:29418"    # where events stream
# ssh_options = ["-i", "/etc/covtrack/id_ed25519"]
# user = "covtrack"
# password_env = "COVTRACK_GERRIT_PASSWORD"          # default: ~/.netrc
# webhook_secret_env = "COVTRACK_WEBHOOK_SECRET"     # POST to /webhook/opendev/SECRET
# silence = "10 min"       # without an event for that long, what was missed is asked for
# ref_wait = "5 min"       # how long a new patch set's ref is waited for (replication)
# mirror = ["openstack/oslo.*"]   # projects there that are mirrored though not measured

# Settings that hold for every project that does not set them itself.
[defaults]
# target = 80              # percent of statements
# select = "affected"      # "affected": of the tests that a change reaches as many as prove every
#                          # line; "affected-all": each of them; "changed": those of changed
#                          # test files; "all": a full run each time
# workers = 8              # test processes side by side; default: one per core
# timeout = "1 h"          # for all tests of one job
# budget = "5 min"         # of tests, by their durations; a change that asks for more gets a
#                          # provisional verdict first. Default: no budget (docs/budget.rst)
# memory = "8 GiB"         # address space of one test process
# ledger = "0"             # such as "1/20": the share of jobs that `covtrack serve` holds against
#                          # a full run when nothing else waits
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
# executor = "jenkins"     # default: that of the whole file
# gerrit = "opendev"       # the server that its changes are reviewed on
# gerrit_project = "openstack/oslo.utils"    # its name there; default: its name here
# git_for_agents = "https://review.example.org/openstack/oslo.utils"  # where agents fetch from
#
# [projects."oslo.utils".review]
# post = true              # false: measured, but nothing is said on the change
# quiet = false            # true: nothing is said where there is nothing to say
# label = "Coverage"       # vote +1 or -1; default: no vote
# patch_threshold = 80     # percent of the change's own statements that must be covered
# small = 5                # of changes with so few statements it is not asked
# allowed_drop = 0         # statements that may become uncovered
# comments = 20            # most comments on lines
# notify = "OWNER"         # NONE, OWNER, OWNER_REVIEWERS or ALL
# template = "message.j2"  # the message, as a Jinja2 template
"""
