"""`delta`: instead of the trained model x, its difference to the base model b that the task brought.

Alone it saves no byte; it makes the numbers small, so that what follows in the chain loses less of them. The server
adds up differences and adds the base once, to their mean. With a lossy chain for models, b is what the client received;
the difference is added to the global model in full precision all the same.

The subtraction is in float32 (float64 for float64 tensors) and rounded to the tensor's dtype where nothing lossy
follows: exact where b/2 <= x <= 2b (Sterbenz), else within u·|x - b|, u = 2^-24 for float32 (2^-53 float64, 2^-11
float16, 2^-8 bfloat16).
"""

from fedn.models.codecs.base import Difference, Inverse


class Delta(Difference):
    """Differences to the base model instead of models; needed by what is sparse."""

    name = "delta"
    inverse = Inverse.ON_SUM
