"""One file per figure, each with `plot(frame, ...)`; `style.py` is what they share."""
