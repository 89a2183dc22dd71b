#!/bin/sh
exec python3 src/counter.py
