"""The back end `grpc`: workers anywhere, who dial out to combiners and are relayed from one to the other.

`pairs` is what order, loss and repetition are about, and pure. Here is no server: that is fedn.combiner.workers.
"""
