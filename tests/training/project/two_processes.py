"""Trains `tiny.surg` without randomness; started by a launcher, on several processes. Arguments: folder, batch size."""

import sys

import tiny

import surgery

args, kwargs = tiny.example()
plan = surgery.plan(surgery.load("tiny.surg", dropout=0.0), surgery.capture(tiny.build(), args, kwargs))
config = surgery.TrainConfig(
    out=sys.argv[1],
    steps=6,
    batch_size=int(sys.argv[2]),
    gradient_accumulation=2,
    learning_rate=0.01,
    save_every=3,
    log_every=1,
    tensorboard=False,
)
surgery.train(tiny.build(dropout=0.0), plan, tiny.Unmask(masking=False), config)
