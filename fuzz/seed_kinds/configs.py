"""Configs."""



SMALL = 'name = "x"\n[data]\ntrain = "a.csv"\n[model]\nkind = "cnn"\n'

EVERYTHING = """name = "every-key_1.0+\u00e4"
seed = 9223372036854775807
device = "cuda:3"
precision = "bf16"
threads = 1024
[data]
train = "a/b.csv"
test = "t.csv"
validation = "PublicTest"
split = "random"
group_duplicates = false
on_bad_row = "skip"
classes = ["no", "yes \u4e00", "x\\ty"]
[augment]
rotate = 180.0
shift = 1
zoom = 0.999
flip = false
[model]
kind = "cnn"
filters = [8, 16, 32]
convolutions = 2
kernel = 5
padding = "same"
pooling = "average"
normalization = false
dense = []
dropout = 0.0
activation = "leaky_relu"
[train]
epochs = 100000
batch = 65536
optimizer = { kind = "adamw", lr = 1e2, beta1 = 0.0, beta2 = 0.9999, eps = 1, weight_decay = 10 }
schedule = { kind = "hold_then_decay", hold = 4294967295, rate = 100 }
early_stop = { monitor = "val_loss", patience = 0 }
checkpoint_every = { epochs = 1, steps = 9223372036854775807, seconds = 1e9 }
max_rollbacks = 100
"""


def config() -> dict[str, bytes]:
    """A config; each line from the first `--set ` on is an override."""
    deep = "x" + ".x" * 78
    nested = f"{deep} = 1"
    for _ in range(70):
        nested = f"{deep} = {{ {nested} }}"
    texts = {
        "small": SMALL,
        "forest": 'name = "x"\n[data]\ntrain = "a.csv"\n[forest]\ntrees = 7\nmax_features = "sqrt"\nfinder = "linfa"\nfolds = 0\n',
        "forest-sets": 'name = "x"\n[data]\ntrain = "a.csv"\n[forest]\n'
        + "\n--set forest.max_features=5\n--set forest={trees=9}\n--set threads=3",
        "everything": EVERYTHING,
        "sgd": SMALL + '[train]\noptimizer = { kind = "sgd", lr = 0.1, momentum = 0.0, nesterov = false }\nschedule = { kind = "constant" }\n',
        "dotted": 'name = "x"\ndata.train = "a.csv"\nmodel.kind = "cnn"\ntrain.optimizer.lr = 0.5\ntrain.checkpoint_every.seconds = 0.1\n',
        "inline": 'name = "x"\ndata = { train = "a.csv", validation = 0.5 }\nmodel = { kind = "cnn", filters = [4096] }\n',
        "comments": '# first\nname = \'x\' # "y"\n[ data ]\n"train" = """\na.csv"""\n[model] # = [\nkind = "cnn"\nkernel = 0x3\n',
        "sets": SMALL + '\n--set train.batch=128\n--set name=big-one\n--set device=cuda:1\n--set data.validation=val/x.csv',
        "sets-of-tables": SMALL
        + '\n--set train.optimizer={beta1=0.8}\n--set train.optimizer={kind="sgd",lr=0.1}\n--set train.optimizer.momentum=0.5'
        + '\n--set train.schedule={kind="constant"}\n--set train.checkpoint_every={seconds=5}\n--set model={kind="cnn",dense=[]}',
        "sets-that-fail": SMALL + "\n--set augment.zoom=1.5",
        "sets-without-key": SMALL + "\n--set =1\n--set train\n--set a..b=1",
        "sets-into-values": SMALL + "\n--set name.x=1",
        "sets-of-lines": SMALL + "\n--set name=1\nseed = 2\n--set seed=\n[x]",
        "sets-deep": SMALL + "\n--set " + "a." * 20 + "b=1\n--set name={" + deep + "=1}",
        "unknown-key": SMALL + "[train]\nbacth = 3\n",
        "unknown-kind": SMALL.replace("cnn", "rnn"),
        "wrong-type": SMALL + '[train]\nbatch = "many"\nepochs = 1.5\noptimizer = 3\n',
        "out-of-range": SMALL + "[augment]\nrotate = nan\nshift = -0.0\nzoom = inf\n",
        "no-pixel-left": SMALL + "filters = [8, 8, 8, 8, 8, 8]\n",
        "too-large": SMALL + "filters = [4096, 4096]\nkernel = 15\ndense = [65536, 65536]\n",
        "missing-table": 'name = "x"\n',
        "two-tables": SMALL + "[data]\n[[model]]\n",
        "dates": 'name = 1979-05-27T07:32:00Z\nseed = 07:32:00\n[data]\ntrain = 1979-05-27\nvalidation = 1979-05-27 07:32:00\n',
        "open": 'name = "x\n[data',
        "nested-arrays": "name = " + "[" * 100 + "]" * 100,
        "nested-tables": nested,
        "escapes": 'name = "\\u00e4\\U0001F600"\n[data]\ntrain = "\\x00\\e"\nclasses = ["\\"", "\\n", " "]\n[model]\nkind = "cnn"\n',
        "empty": "",
    }
    files = {name: text.encode() for name, text in texts.items()}
    files["not-utf8"] = b'name = "\xff"\n'
    return files
