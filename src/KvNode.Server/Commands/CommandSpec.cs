using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Properties of a command, in Redis's words where Redis has one.</summary>
[Flags]
internal enum CommandFlags
{
    None = 0,
    Write = 1,
    ReadOnly = 2,
    Fast = 4,

    /// <summary>Redis's denyoom: refused while the store's disk is full.</summary>
    DenyOutOfSpace = 8,
    Admin = 16,

    /// <summary>May run before the store has been recovered.</summary>
    Loading = 32,
    Stale = 64,
    NoAuth = 128,

    /// <summary>Walks a range of keys: its time depends on their number. Ours; COMMAND INFO does not show it.</summary>
    Slow = 256,

    /// <summary>
    /// May touch keys it does not name. Every write either names its keys or carries this. Ours; COMMAND INFO does not
    /// show it.
    /// </summary>
    AnyKey = 512,

    /// <summary>The key positions depend on options.</summary>
    MovableKeys = 1024,
    NoScript = 2048,
    NoMulti = 4096,
    AllowBusy = 8192,
}

/// <summary>Redis's ACL categories, as far as the commands here belong to any.</summary>
[Flags]
internal enum AclCategories
{
    None = 0,
    Keyspace = 1,
    Read = 2,
    Write = 4,
    String = 8,
    Admin = 16,
    Fast = 32,
    Slow = 64,
    Dangerous = 128,
    Connection = 256,
}

/// <summary>What a command does with the keys it names, in the words of Redis's key specifications.</summary>
[Flags]
internal enum KeyAccess
{
    None = 0,
    ReadOnly = 1,
    ReadWrite = 2,
    Overwrite = 4,
    Remove = 8,

    /// <summary>The value itself reaches the client or decides what happens.</summary>
    Access = 16,
    Update = 32,
    Insert = 64,
    Delete = 128,

    /// <summary>The above depends on options.</summary>
    Variable = 256,
}

/// <summary>Where a command's keys stand: first, last (negative: from the end), step, as COMMAND INFO says it.</summary>
internal readonly record struct KeySpec(int First, int Last, int Step)
{
    public static KeySpec None => default;

    public static KeySpec At(int position) => new(position, position, 1);

    /// <summary>Every argument from <paramref name="first"/> on, each <paramref name="step"/>th.</summary>
    public static KeySpec From(int first, int step = 1) => new(first, -1, step);
}

/// <summary>
/// One command = one row: everything the server knows of it. The kind decides its way: a read runs on a view behind
/// the read barrier, a write goes through the log and runs on every node, a local command runs on this node only.
/// </summary>
/// <param name="name">Upper case.</param>
/// <param name="arity">Arguments with the name; negative: at least that many (Redis's convention).</param>
internal abstract class CommandSpec(
    string name, int arity, KeySpec keys, CommandFlags flags, string group, string summary)
{
    public string Name { get; } = name;

    public int Arity { get; } = arity;

    public KeySpec Keys { get; } = keys;

    public CommandFlags Flags { get; } = flags;

    /// <summary>Redis's documentation group: string, generic, connection, server, raft.</summary>
    public string Group { get; } = group;

    public string Summary { get; } = summary;

    /// <summary>The arguments after the name, as <c>key value [NX | XX]</c>; feeds COMMAND DOCS.</summary>
    public string Syntax { get; init; } = "";

    /// <summary>Redis's complexity text.</summary>
    public string Complexity { get; init; } = "O(1)";

    /// <summary>Version in which Redis (or KvNode, for its own) first had it.</summary>
    public string Since { get; init; } = "1.0.0";

    /// <summary>ACL categories beyond those that follow from the flags (see <see cref="AllCategories"/>).</summary>
    public AclCategories Acl { get; init; }

    /// <summary>What is done with the keys at <see cref="Keys"/>; a plain read unless the row says otherwise.</summary>
    public KeyAccess KeyAccess { get; init; } = keys.First > 0 && flags.HasFlag(CommandFlags.ReadOnly)
        ? KeyAccess.ReadOnly | KeyAccess.Access
        : KeyAccess.None;

    /// <summary>A remark in the key specification; "" for most.</summary>
    public string KeyNotes { get; init; } = "";

    /// <summary>Redis's command tips for proxies and cluster clients.</summary>
    public string[] Tips { get; init; } = [];

    /// <summary>Subcommands, named <c>CONFIG|GET</c>; empty for most.</summary>
    public CommandSpec[] Subcommands
    {
        get;
        init
        {
            field = value;
            SubcommandNames = value.Length > 0 ? new CommandNames(value) : null;
        }
    } = [];

    /// <summary>Finds a subcommand by its own word (<c>GET</c>); null when there is none.</summary>
    public CommandNames? SubcommandNames { get; private init; }

    /// <summary>As clients see it: lower case, with the container (<c>config|get</c>).</summary>
    public string DisplayName { get; } = name.ToLowerInvariant();

    /// <summary>Refuses bad options before anything is logged or read; false after it has written the error.</summary>
    public ArgumentCheck? Check { get; init; }

    /// <summary>Counters for INFO commandstats; written with Interlocked or by one thread.</summary>
    public CommandStats Stats { get; } = new();

    /// <summary>All ACL categories: those of the row and those Redis derives from the flags.</summary>
    public AclCategories AllCategories => Acl
        | (Flags.HasFlag(CommandFlags.Write) ? AclCategories.Write : AclCategories.None)
        | (Flags.HasFlag(CommandFlags.ReadOnly) ? AclCategories.Read : AclCategories.None)
        | (Flags.HasFlag(CommandFlags.Admin) ? AclCategories.Admin | AclCategories.Dangerous : AclCategories.None)
        | (Flags.HasFlag(CommandFlags.Fast) ? AclCategories.Fast : AclCategories.Slow);

    public bool ArityFits(int count) => Arity >= 0 ? count == Arity : count >= -Arity;
}

internal delegate bool ArgumentCheck(CommandArgs args, RespWriter reply);

internal delegate void ReadHandler(ref ReadContext cx);

internal delegate void WriteHandler(ref WriteContext cx);

internal delegate void LocalHandler(ref LocalContext cx);

internal delegate ValueTask AdminHandler(AdminContext cx);

internal delegate ValueTask StreamHandler(StreamContext cx);

/// <summary>Reads one view at one moment; never waits.</summary>
internal sealed class ReadCommand(
    string name, int arity, KeySpec keys, CommandFlags flags, string group, string summary, ReadHandler run)
    : CommandSpec(name, arity, keys, flags | CommandFlags.ReadOnly, group, summary)
{
    public ReadHandler Run { get; } = run;
}

/// <summary>
/// Reads one view and may produce a reply of any size: it writes in pieces and waits whenever the client is slow.
/// </summary>
internal sealed class StreamCommand(
    string name, int arity, KeySpec keys, CommandFlags flags, string group, string summary, StreamHandler run)
    : CommandSpec(name, arity, keys, flags | CommandFlags.ReadOnly, group, summary)
{
    public StreamHandler Run { get; } = run;
}

/// <summary>Goes through the log; runs on every node, on the apply thread, with the same outcome everywhere.</summary>
internal sealed class WriteCommand(
    string name, int arity, KeySpec keys, CommandFlags flags, string group, string summary, WriteHandler run)
    : CommandSpec(name, arity, keys, flags | CommandFlags.Write, group, summary)
{
    public WriteHandler Run { get; } = run;
}

/// <summary>Concerns this connection or this node's own state only; answers at once.</summary>
internal sealed class LocalCommand(
    string name, int arity, CommandFlags flags, string group, string summary, LocalHandler run)
    : CommandSpec(name, arity, KeySpec.None, flags, group, summary)
{
    public LocalHandler Run { get; } = run;
}

/// <summary>An operation on this node that may take long: nothing else of this connection runs meanwhile.</summary>
internal sealed class AdminCommand(
    string name, int arity, CommandFlags flags, string group, string summary, AdminHandler run)
    : CommandSpec(name, arity, KeySpec.None, flags | CommandFlags.Admin, group, summary)
{
    public AdminHandler Run { get; } = run;
}

/// <summary>
/// A name with nothing but subcommands (CLIENT, CONFIG). <see cref="CommandTable.Resolve"/> never returns one: it is
/// either one of its subcommands or an error.
/// </summary>
internal sealed class ContainerCommand(string name, string group, string summary)
    : CommandSpec(name, -2, KeySpec.None, CommandFlags.None, group, summary);

/// <summary>What a read sees.</summary>
internal ref struct ReadContext(CommandArgs args, KeyspaceView store, RespWriter reply)
{
    /// <summary>Keys looked up and found; the caller adds it to its statistics afterwards.</summary>
    public int Hits;

    /// <summary>Keys looked up and not found; the caller adds it to its statistics afterwards.</summary>
    public int Misses;

    public CommandArgs Args { get; } = args;

    public KeyspaceView Store { get; } = store;

    public RespWriter Reply { get; } = reply;
}

/// <summary>What a write sees. Time comes from <see cref="NowMs"/> and from nowhere else.</summary>
internal ref struct WriteContext(CommandArgs args, WriteView store, RespWriter reply, long nowMs)
{
    public CommandArgs Args { get; } = args;

    public WriteView Store { get; } = store;

    public RespWriter Reply { get; } = reply;

    /// <summary>Milliseconds since the Unix epoch, stamped by the leader into the batch.</summary>
    public long NowMs { get; } = nowMs;
}

/// <summary>What a local command sees.</summary>
internal ref struct LocalContext(CommandArgs args, RespWriter reply, INodeControl node, IClientControl client)
{
    public CommandArgs Args { get; } = args;

    public RespWriter Reply { get; } = reply;

    public INodeControl Node { get; } = node;

    public IClientControl Client { get; } = client;
}

/// <summary>What an admin command sees. The arguments are copies: it may wait.</summary>
internal sealed class AdminContext(byte[][] args, RespWriter reply, INodeControl node)
{
    public byte[][] Args { get; } = args;

    public RespWriter Reply { get; } = reply;

    public INodeControl Node { get; } = node;
}

/// <summary>What a streaming read sees. The arguments are copies: it may wait.</summary>
internal sealed class StreamContext(
    byte[][] args, KeyspaceView store, RespWriter reply, Func<ValueTask> drain, CancellationToken gone = default)
{
    public byte[][] Args { get; } = args;

    public KeyspaceView Store { get; } = store;

    public RespWriter Reply { get; } = reply;

    /// <summary>
    /// Hands what is in <see cref="Reply"/> to the client and waits while the client is behind; afterwards the reply is
    /// empty. Call it every 64 KiB or so. Throws <see cref="OperationCanceledException"/> when the client is gone or has
    /// been stuck for too long.
    /// </summary>
    public ValueTask DrainAsync() => drain();

    /// <summary>
    /// Lets others run and goes on as a new item of the thread pool. Throws <see cref="OperationCanceledException"/> when
    /// nobody waits for the answer any more: the client is gone or the node stops.
    /// </summary>
    public async ValueTask PauseAsync()
    {
        // There is no synchronization context, so this is the pool.
        await Task.Yield();
        gone.ThrowIfCancellationRequested();
    }
}

/// <summary>Counters of one command since start, for INFO commandstats.</summary>
internal sealed class CommandStats
{
    /// <summary>Executions.</summary>
    public long Calls;

    /// <summary>Time in the handler, summed, in Stopwatch ticks. Sampled, see README.</summary>
    public long Ticks;

    /// <summary>Refused before execution (arity, options, state of the node).</summary>
    public long Rejected;

    /// <summary>Answered an error while executing.</summary>
    public long Failed;
}
