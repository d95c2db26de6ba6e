namespace KvNode.Server;

/// <summary>
/// Every log line of the server. The event ids are part of the interface: people filter by them, so an id is never
/// reused for another meaning. 10xx the node's life, 20xx storage and log, 30xx clients, 40xx other nodes. Nothing is logged per
/// command.
/// </summary>
internal static partial class Log
{
    [LoggerMessage(1000, LogLevel.Information, "{Version} starts, process {ProcessId}")]
    public static partial void Starting(ILogger logger, string version, int processId);

    [LoggerMessage(1001, LogLevel.Information, "Store in {DataDirectory}, log and snapshots in {LogDirectory}")]
    public static partial void Directories(ILogger logger, string dataDirectory, string logDirectory);

    [LoggerMessage(1002, LogLevel.Information,
        "Recovered {Keys} keys up to entry {Index} of term {Term}, {Replayed} entries of it from the log, in {Milliseconds} ms")]
    public static partial void Recovered(
        ILogger logger, long keys, ulong index, ulong term, ulong replayed, long milliseconds);

    [LoggerMessage(1003, LogLevel.Information, "Durability {Durability}: {Meaning}; consistency {Consistency}")]
    public static partial void Promises(ILogger logger, string durability, string meaning, string consistency);

    [LoggerMessage(1004, LogLevel.Information, "Listening on {Address}")]
    public static partial void Listening(ILogger logger, string address);

    [LoggerMessage(1005, LogLevel.Information, "Stopping: {Reason}")]
    public static partial void Stopping(ILogger logger, string reason);

    [LoggerMessage(1006, LogLevel.Information, "Stopped cleanly")]
    public static partial void Stopped(ILogger logger);

    [LoggerMessage(1007, LogLevel.Warning,
        "At most {Allowed} clients instead of {Wanted}: the system allows {Files} open files (ulimit -n)")]
    public static partial void ClientsLowered(ILogger logger, int allowed, int wanted, long files);

    [LoggerMessage(2000, LogLevel.Warning, "The last write to the log was torn by a crash and is cut off: {Detail}")]
    public static partial void TornTail(ILogger logger, string detail);

    [LoggerMessage(2001, LogLevel.Error, "Writes are refused: {Reason}")]
    public static partial void WritesRefused(ILogger logger, string reason);

    [LoggerMessage(2002, LogLevel.Information, "Writes are accepted again")]
    public static partial void WritesResumed(ILogger logger);

    [LoggerMessage(2003, LogLevel.Information, "Snapshot {Id} written in {Milliseconds} ms")]
    public static partial void SnapshotWritten(ILogger logger, string id, long milliseconds);

    [LoggerMessage(2004, LogLevel.Error, "No snapshot: {Reason}")]
    public static partial void SnapshotFailed(ILogger logger, string reason);

    [LoggerMessage(EventId = 2501, Message = "{Text}")]
    public static partial void Membership(ILogger logger, LogLevel level, string text);

    [LoggerMessage(2502, LogLevel.Information, "Leader of term {Term}: {Leader}")]
    public static partial void Leader(ILogger logger, ulong term, string leader);

    [LoggerMessage(3000, LogLevel.Warning, "{Count} connections refused in the last second: {Clients} clients are connected")]
    public static partial void ConnectionsRefused(ILogger logger, long count, int clients);

    [LoggerMessage(3001, LogLevel.Debug, "Client {Address} closed: {Reason}")]
    public static partial void ClientClosed(ILogger logger, string address, string reason);

    [LoggerMessage(3002, LogLevel.Error, "Client {Address} closed by a defect of kvnode, please report it")]
    public static partial void ClientFailed(ILogger logger, Exception cause, string address);

    [LoggerMessage(3003, LogLevel.Debug, "No TLS with {Address}: {Reason}")]
    public static partial void TlsRefused(ILogger logger, string address, string reason);

    [LoggerMessage(4000, LogLevel.Warning, "No cluster secret and no TLS: only nodes on this machine are dealt with")]
    public static partial void PeersOnLoopbackOnly(ILogger logger);

    [LoggerMessage(4001, LogLevel.Warning, "Connection from {Address} refused ({Suppressed} more before): {Reason}")]
    public static partial void PeerRefused(ILogger logger, string address, string reason, long suppressed);

    [LoggerMessage(4002, LogLevel.Warning, "Node {Peer} at {Address} does not let this node in ({Suppressed} more before): {Reason}")]
    public static partial void PeerCallRefused(ILogger logger, string peer, string address, string reason, long suppressed);

    [LoggerMessage(4003, LogLevel.Information, "Connected with node {Peer} at {Address}")]
    public static partial void PeerConnected(ILogger logger, string peer, string address);

    [LoggerMessage(4005, LogLevel.Error,
        "Connection of the node at {Address} closed by a defect of kvnode, please report it ({Suppressed} more before)")]
    public static partial void PeerFailed(ILogger logger, Exception cause, string address, long suppressed);

    [LoggerMessage(4006, LogLevel.Warning, "Node {Peer} cannot be reached at {Address}: {Reason}")]
    public static partial void PeerUnreachable(ILogger logger, string peer, string address, string reason);

    [LoggerMessage(4007, LogLevel.Warning,
        "Nodes connect and disconnect again and again, the last one node {Peer} at {Address}: {Suppressed} lines were left out")]
    public static partial void PeersFlap(ILogger logger, string peer, string address, long suppressed);

    [LoggerMessage(4008, LogLevel.Warning, "No other node will accept this node's certificate: {Reason}")]
    public static partial void OwnCertificate(ILogger logger, string reason);

    [LoggerMessage(4004, LogLevel.Warning, "No connection with node {Peer} at {Address} any more: {Reason}")]
    public static partial void PeerDisconnected(ILogger logger, string peer, string address, string reason);
}
