"""The benchmark rig: tunnels side by side, in the same topology, under the same conditions.

    load generator -> client -> (TLS) -> server -> load generator's target

command     the command line, and the order in which things run
namespace   the network namespace all of it runs in, with one congestion control for every socket
processes   a program that was started: its ports, its CPU time, its memory, its end
chains/     one file for each kind of tunnel: how it is found, configured and started
measures    what is measured, and what a run of the load generator says
results     values of several rounds, their medians and ratios
report      Markdown and JSON
machine     what it ran on
path        an emulated path between two namespaces, and path_measures what is measured over it (bench/run --path)
"""
