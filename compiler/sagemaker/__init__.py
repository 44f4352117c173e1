"""What the target `sagemaker` is made of: the request, a node's script, SageMaker's limits, forms for its SDK."""
