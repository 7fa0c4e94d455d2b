"""Learners for models of the usual frameworks: a model, its data and a loss are enough.

A module a framework, which is imported only with that module: `fedn.learners.torch`, `.huggingface`, `.keras`,
`.sklearn`, and `.lists` for classes written against lists of arrays. All of them honour the plan's parameters `epochs`,
`batch_size` and `learning_rate`, step budgets, the task's seed and, where the framework has a place for it, FedProx
(`proximal_mu`); and they report what every scheduler and scaling factor needs. Those for PyTorch do SCAFFOLD too.

Not here: what a Learner is (fedn.client.learner), and how tensors get into a model (fedn.models.helpers).
"""
