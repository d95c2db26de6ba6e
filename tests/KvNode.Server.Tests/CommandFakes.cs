using KvNode.Raft;
using KvNode.Raft.Snapshots;
using KvNode.Server.Commands;
using KvNode.Storage;

namespace KvNode.Server.Tests;

/// <summary>Byte strings in byte order.</summary>
internal sealed class ByteOrder : IComparer<byte[]>
{
    public static ByteOrder Instance { get; } = new();

    public int Compare(byte[]? x, byte[]? y) => x.AsSpan().SequenceCompareTo(y);
}

/// <summary>
/// A keyspace in a sorted dictionary that keeps the contract's rules to the letter: spans handed out are overwritten
/// when the contract says that they die, so that a command holding one too long reads garbage.
/// </summary>
internal sealed class FakeKeyspace : WriteView
{
    private readonly SortedDictionary<byte[], (ValueTag Tag, byte[] Value)> _keys = new(ByteOrder.Instance);
    private byte[]? _lent;
    private int _cursors;

    public override long Count => _keys.Count;

    /// <summary>Cursors opened and not disposed.</summary>
    public int OpenCursors => _cursors;

    /// <summary>Keys visited by cursors since the start.</summary>
    public long Visited { get; private set; }

    public IEnumerable<byte[]> Keys => _keys.Keys;

    public void Put(string key, string value, ValueTag tag = ValueTag.String) =>
        _keys[Wire.Bytes(key)] = (tag, Wire.Bytes(value));

    public string? Find(string key) => _keys.TryGetValue(Wire.Bytes(key), out var entry) ? Wire.Text(entry.Value) : null;

    public override bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out ValueTag tag)
    {
        if (_keys.TryGetValue(key.ToArray(), out var entry))
        {
            _lent = [.. entry.Value];
            value = _lent;
            tag = entry.Tag;
            return true;
        }

        value = default;
        tag = default;
        return false;
    }

    public override KeyCursor Scan(KeyRange range)
    {
        _cursors++;
        var keys = new List<byte[]>();
        foreach (var key in _keys.Keys)
        {
            var fromStart = key.AsSpan().SequenceCompareTo(range.Start);
            if (fromStart < 0 || (fromStart == 0 && range.StartExclusive))
            {
                continue;
            }

            if (range.HasEnd && key.AsSpan().SequenceCompareTo(range.End) >= 0)
            {
                continue;
            }

            keys.Add(key);
        }

        if (range.Descending)
        {
            keys.Reverse();
        }

        return new Cursor(this, keys);
    }

    public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
    {
        var copy = value.ToArray();
        EndLoans();
        _keys[key.ToArray()] = (ValueTag.String, copy);
    }

    public override bool Delete(ReadOnlySpan<byte> key)
    {
        var existed = _keys.Remove(key.ToArray());
        EndLoans();
        return existed;
    }

    public override void Clear()
    {
        EndLoans();
        _keys.Clear();
    }

    protected override void Dispose(bool disposing) => EndLoans();

    private void EndLoans()
    {
        if (_cursors > 0)
        {
            throw new InvalidOperationException("a write or an end of the view while a cursor is open");
        }

        _lent?.AsSpan().Fill(0xEE);
        _lent = null;
    }

    private sealed class Cursor(FakeKeyspace owner, List<byte[]> keys) : KeyCursor
    {
        private int _at = -1;
        private byte[] _key = [];
        private byte[] _value = [];

        public override ReadOnlySpan<byte> Key => _key;

        public override ReadOnlySpan<byte> Value => _value;

        public override ValueTag Tag => owner._keys[keys[_at]].Tag;

        public override bool MoveNext()
        {
            _key.AsSpan().Fill(0xEE);
            _value.AsSpan().Fill(0xEE);
            _at++;
            if (_at >= keys.Count)
            {
                return false;
            }

            owner.Visited++;
            _key = [.. keys[_at]];
            _value = [.. owner._keys[keys[_at]].Value];
            return true;
        }

        protected override void Dispose(bool disposing) => owner._cursors--;
    }
}

/// <summary>A connection that remembers what was asked of it.</summary>
internal sealed class FakeClient : IClientControl
{
    public ClientInfo Info { get; init; } = new()
    {
        Id = 7,
        RemoteAddress = "127.0.0.1:50001",
        LocalAddress = "127.0.0.1:4920",
        FileDescriptor = 12,
        ConnectedAtMs = Environment.TickCount64,
        LastActiveMs = Environment.TickCount64,
    };

    public bool Closed { get; private set; }

    public void SetProtocol(int version) => Info.Protocol = version;

    public bool ReadOnly { get; private set; }

    public void SetReadOnly(bool readOnly) => ReadOnly = readOnly;

    public void CloseAfterReply() => Closed = true;
}

/// <summary>A node with settable facts.</summary>
internal sealed class FakeNode : INodeControl
{
    public NodeStatus Status { get; set; } = new()
    {
        NodeId = 1,
        Role = RaftRole.Leader,
        Term = 3,
        LeaderAddress = "127.0.0.1:4920",
        LeaderId = 1,
        ClusterId = 0xC1,
        CommitIndex = 120,
        AppliedIndex = 118,
        DurableIndex = 121,
        LastLog = new EntryId(3, 122),
        FirstLogIndex = 10,
        LastSnapshot = new EntryId(2, 90),
        Members = [new RaftMember(1, "127.0.0.1:4920", Voter: true, RaftRole.Leader)],
        LogBytes = 67_108_864,
        WriteRefusal = null,
    };

    public EngineMetrics Metrics { get; set; } = new(122, 40, 30, 3_000, 900, 5_000_000);

    public long UptimeMs { get; set; } = 90_061_000;

    public FakeKeyspace Keyspace { get; } = new();

    public StoreStatus StoreStatus { get; set; } = new()
    {
        Keys = 2,
        AppliedIndex = 118,
        AppliedTerm = 3,
        DurableIndex = 100,
        BufferBytes = 4_096,
        BufferKeys = 5,
        FileBytes = 1_048_576,
        MapBytes = 1L << 40,
        Flushes = 6,
        FlushMicroseconds = 7_000,
        LastFlushUnixMs = 1_700_000_000_123,
        FlushError = null,
        Readers = 2,
    };

    public ServerStats Stats { get; } = new();

    public List<ClientInfo> ClientList { get; } = [];

    public IReadOnlyCollection<ClientInfo> Clients => ClientList;

    public List<KeyValuePair<string, string>> SettingList { get; } =
    [
        new("save", ""),
        new("appendonly", "yes"),
        new("maxclients", "10000"),
        new("durability", "high"),
    ];

    public IReadOnlyList<KeyValuePair<string, string>> Settings => SettingList;

    public AdminOutcome SnapshotOutcome { get; set; } = new(true, "3-118-1");

    public AdminOutcome ShrinkOutcome { get; set; } = new(true, "");

    public int SnapshotsMade { get; private set; }

    public IReadOnlyList<SnapshotInfo> Snapshots { get; set; } = [];

    /// <summary>What was asked of the cluster, in words.</summary>
    public List<string> Asked { get; } = [];

    public AdminOutcome ClusterOutcome { get; set; } = new(true, "done");

    public ValueTask<AdminOutcome> ChangeMembershipAsync(MembershipChange change)
    {
        Asked.Add($"{change.Kind} {change.NodeId} {change.Address}");
        return new(ClusterOutcome);
    }

    public ValueTask<AdminOutcome> ReplaceMemberAsync(string member, string address)
    {
        Asked.Add($"Replace {member} {address}");
        return new(ClusterOutcome);
    }

    public ValueTask<AdminOutcome> TransferLeadershipAsync(string? target)
    {
        Asked.Add($"Transfer {target ?? "any"}");
        return new(ClusterOutcome);
    }

    public bool ShutdownRequested { get; private set; }

    public KeyspaceView OpenView() => Keyspace;

    public async ValueTask<AdminOutcome> SnapshotAsync()
    {
        await Task.Yield();
        SnapshotsMade++;
        return SnapshotOutcome;
    }

    public ValueTask<AdminOutcome> ShrinkLogAsync() => new(ShrinkOutcome);

    public void RequestShutdown() => ShutdownRequested = true;
}
