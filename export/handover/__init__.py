"""Files for programs of others that run the models: Triton, DeepStream, ROS 2."""
