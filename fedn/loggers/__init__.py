"""Sessions for other programs' eyes: TensorBoard, MLflow, and whatever declares an entry point in `fedn.loggers`.

A logger runs beside the person who looks, never in the reducer: it reads the REST API and its event stream, so what
breaks in it, or in the server that it writes to, costs the federation nothing; and since the reducer keeps everything,
one that was started late, or again, has missed nothing.
"""
