"""When stages run: Prefect flows, the launcher of a stage's process, DVC's side of a project, and the command line."""
