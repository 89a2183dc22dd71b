#!/bin/sh
printf "%s\n" "$NOTES" >>published.txt
