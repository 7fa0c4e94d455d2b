"""A combiner in this process, over real gRPC and TLS, with clients and a reducer that do what a test says."""
