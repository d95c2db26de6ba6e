namespace KvNode.Raft.Transport;

/// <summary>A request to another node. What it asks is the driver's business.</summary>
/// <param name="Kind">The driver's own number. ON THE WIRE.</param>
/// <param name="From">Node id of who asks; filled in by the receiving transport, 0 from a node that has none yet.</param>
/// <param name="IsMember">Who asks names this node's cluster as its own; false for one that wants to join. Filled in by the
/// receiving transport.</param>
internal readonly record struct ControlRequest(
    byte Kind, ReadOnlyMemory<byte> Body, ulong From = 0, bool IsMember = false);

/// <param name="Status">The driver's own number. ON THE WIRE.</param>
/// <param name="ClusterId">The answering node's cluster; filled in by the asking transport.</param>
/// <param name="From">The answering node's id; filled in by the asking transport.</param>
internal readonly record struct ControlReply(
    byte Status, ReadOnlyMemory<byte> Body, ulong ClusterId = 0, ulong From = 0);
