"""The interface of a model as data: what turns a raw input into the model's input, and its output into an answer.

A manifest holds it as JSON, so that a page in a browser or another framework can do the same without this library.

input, output: {"name", "dtype", "axes", "shape"}, with a name for each axis. The batch axis comes first, and its size
is null. The names are those in model.onnx.

preprocessing: a list of fields. The raw value of each field becomes an array of numbers, to which the steps of the
field are applied in order. The arrays are then joined along their last axis, and cast to the dtype of the input.

    {"name", "kind": "image", "height", "width", "range": [blank, ink], "steps"}   (height, width) brightnesses
    {"name", "kind": "numbers", "length", "steps"}                                 (length,) numbers
    {"name", "kind": "choice", "options", "steps"}                                 () the index of one of the options
    {"name", "kind": "text", "options", "length", "steps"}                         (length,) the index of each symbol

    {"op": "scale", "factor", "offset"}        x * factor + offset
    {"op": "normalize", "mean", "std"}         (x - mean) / std, each a number or a list for the last axis
    {"op": "flatten"}                          all axes as one
    {"op": "one_hot"}                          a new last axis with a position for each option: 1 there, 0 elsewhere
    {"op": "append", "values"}                 more numbers at the end of the last axis

Without fields, the raw input is the model's input.

postprocessing: a list of steps, applied to the output of one example.

    {"op": "softmax", "axis"}                  probabilities along the named axis
    {"op": "argmax", "axis"}                   the index of the largest value along the named axis
    {"op": "threshold", "value"}               whether each value is at least this
    {"op": "reshape", "shape"}                 another shape
    {"op": "generate", "start", "count"}       `count` times: run the model, take the argmax of the last axis at
                                               position `start`, write it at the next position of the input if there
                                               is one, and go to that position; the answer is what was taken

labels: the names of the positions along the last axis of the output, or none.
"""
