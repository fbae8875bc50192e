"""HTTP in front of the controller: Lambda's invoke, native routes, deployment."""
