using System.Buffers.Binary;
using KvNode.Raft.Core;
using KvNode.Raft.Engine;
using KvNode.Raft.Identity;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;
using KvNode.Raft.Wal;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>A proposal whose payload is known; its outcome can be awaited.</summary>
internal sealed class TestBatch(byte[] payload) : ProposalBatch
{
    private readonly TaskCompletionSource<ProposalOutcome> _outcome =
        new(TaskCreationOptions.RunContinuationsAsynchronously);

    public TestBatch(ulong value)
        : this(BitConverter.GetBytes(value))
    {
    }

    public Task<ProposalOutcome> Outcome => _outcome.Task;

    public override bool ReadsAreLong => IsLong;

    public bool IsLong { get; init; }

    public int Seals { get; private set; }

    public Action? OnSeal { get; init; }

    public Action? OnComplete { get; init; }

    public byte[] Payload { get; set; } = payload;

    public override ReadOnlyMemory<byte> Seal()
    {
        OnSeal?.Invoke();
        Seals++;
        return Payload;
    }

    public override void Complete(ProposalOutcome outcome)
    {
        Assert.Equal(1, Seals);
        OnComplete?.Invoke();
        Assert.True(_outcome.TrySetResult(outcome));
    }
}

/// <summary>Remembers what was applied, and checks the rules of Apply while it does.</summary>
internal sealed class FakeMachine : IReplicatedStateMachine
{
    private readonly Lock _gate = new();
    private readonly List<(EntryId Id, EntryKind Kind, byte[] Payload)> _applied = [];
    private byte[] _engineState = [];
    private int _inside;
    private ulong _last;

    public FakeMachine(EntryId durable = default)
    {
        Durable = durable;
        _last = durable.Index;
    }

    public EntryId Durable { get; set; }

    public ReadOnlyMemory<byte> EngineState { get; set; }

    public EntryId InstalledAt { get; set; }

    public string? WriteRefusal { get; set; }

    public bool ApplyMayWait { get; set; }

    public bool IsLongAlways { get; set; }

    public bool IsLong(ReadOnlySpan<byte> payload) => IsLongAlways;

    public string? Flaw { get; set; }

    public string? Check(ReadOnlySpan<byte> payload) => Flaw;

    public long StateBytes => 0;

    public Action<EntryId>? OnApply { get; set; }

    public Action? OnCheckpoint { get; set; }

    public EntryId Last
    {
        get
        {
            lock (_gate)
            {
                return _applied.Count == 0 ? Durable : _applied[^1].Id;
            }
        }
    }

    /// <summary>Payloads of normal entries, in order.</summary>
    public List<byte[]> Values
    {
        get
        {
            lock (_gate)
            {
                return _applied.Where(entry => entry.Kind == EntryKind.Normal).Select(entry => entry.Payload).ToList();
            }
        }
    }

    public int Count
    {
        get
        {
            lock (_gate)
            {
                return _applied.Count(entry => entry.Kind == EntryKind.Normal);
            }
        }
    }

    /// <summary>Normal entries up to an index.</summary>
    public int CountThrough(ulong index)
    {
        lock (_gate)
        {
            return _applied.Count(entry => entry.Kind == EntryKind.Normal && entry.Id.Index <= index);
        }
    }

    public List<EntryId> Ids
    {
        get
        {
            lock (_gate)
            {
                return _applied.ConvertAll(entry => entry.Id);
            }
        }
    }

    public static List<ulong> Numbers(IEnumerable<byte[]> values) =>
        values.Select(value => BinaryPrimitives.ReadUInt64LittleEndian(value)).ToList();

    public void Apply(ReadOnlySpan<CommittedEntry> entries, ReadOnlySpan<byte> engineState)
    {
        Assert.Equal(1, Interlocked.Increment(ref _inside));
        foreach (ref readonly var entry in entries)
        {
            Assert.True(entry.Id.Index == _last + 1 || (entry.Id.Index == _last && entry.Kind == EntryKind.Normal));
            OnApply?.Invoke(entry.Id);
            _last = entry.Id.Index;
            lock (_gate)
            {
                _applied.Add((entry.Id, entry.Kind, entry.Payload.ToArray()));
            }
        }

        _engineState = engineState.ToArray();
        _ = Interlocked.Decrement(ref _inside);
    }

    public void Read(ReadOnlySpan<ProposalBatch> batches)
    {
    }

    public ISnapshotReader OpenSnapshot() => new EmptySnapshot(Last);

    public ISnapshotWriter CreateRestore(SnapshotMeta meta) => throw new NotSupportedException();

    public void Checkpoint()
    {
        OnCheckpoint?.Invoke();
        Durable = Last;
        EngineState = _engineState;
    }

    private sealed class EmptySnapshot(EntryId position) : ISnapshotReader
    {
        public SnapshotMeta Meta { get; } = new(position, 0, [], default);

        public int Read(Span<byte> buffer) => 0;

        public void Dispose()
        {
        }
    }
}

/// <summary>Counts snapshots.</summary>
internal sealed class FakeSnapshots : ISnapshotStore
{
    public EntryId Latest { get; private set; }

    public Exception? Failure { get; set; }

    public string Save(ISnapshotReader reader)
    {
        if (Failure is not null)
        {
            throw Failure;
        }

        Latest = reader.Meta.Position;
        return $"{Latest.Term}-{Latest.Index}";
    }
}

/// <summary>An engine on some disk, with what it was given.</summary>
internal sealed class EngineHarness : IAsyncDisposable
{
    public static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);

    private static int s_lives;

    private readonly TaskCompletionSource<Exception> _fatal = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public EngineHarness(
        IDisk disk,
        FakeMachine? machine = null,
        Func<RaftOptions, RaftOptions>? configure = null,
        WalOptions? wal = null,
        IDisk? data = null)
    {
        var options = new RaftOptions
        {
            LogDirectory = "unused",
            DataDirectory = "unused",
            Address = "127.0.0.1:4920",
            ResumeInterval = TimeSpan.FromMilliseconds(5),
        };
        Machine = machine ?? new FakeMachine();
        Engine = new RaftEngine(
            configure?.Invoke(options) ?? options,
            Snapshots,
            static _ => new NoPeers(),
            e => _fatal.TrySetResult(e),
            new EngineDisks(disk, data ?? Started(), wal ?? new WalOptions { SegmentBytes = 64 * 1024 }, static () => 1));
    }

    public RaftEngine Engine { get; }

    /// <summary>The identity of a node that has been started before.</summary>
    private static SimDisk Started()
    {
        var disk = new SimDisk();
        for (var life = Interlocked.Increment(ref s_lives); life > 0; life--)
        {
            _ = NodeIdentity.OpenOrCreate(disk, static () => 1);
        }

        return disk;
    }

    public FakeMachine Machine { get; }

    public FakeSnapshots Snapshots { get; } = new();

    public Task<Exception> Fatal => _fatal.Task;

    public async Task<EngineHarness> StartAsync()
    {
        await Engine.StartAsync(Machine, CancellationToken.None).AsTask().WaitAsync(Patience);
        return this;
    }

    public async Task<ProposalOutcome> ProposeAsync(TestBatch batch)
    {
        Engine.Propose(batch);
        return await batch.Outcome.WaitAsync(Patience);
    }

    public async Task CommitAsync(ulong value) =>
        Assert.Equal(ProposalStatus.Committed, (await ProposeAsync(new TestBatch(value))).Status);

    public ValueTask DisposeAsync() => Engine.DisposeAsync();
}

/// <summary>No peer is so far behind that the disk or a snapshot is needed, and none sends a snapshot.</summary>
internal sealed class NothingBehind : IEntryFetcher, ISnapshotTransfers
{
    public ulong KeepAfter => ulong.MaxValue;

    public void Fetch(in FetchRequest request) => Assert.Fail("nothing has left memory");

    public void Send(ulong peer, ulong term) => Assert.Fail("nobody needs a snapshot");

    public Action TakeInstall() => throw new InvalidOperationException("no snapshot came");
}

/// <summary>Nobody else, or whoever hears <see cref="OnSend"/>.</summary>
internal sealed class NoPeers : IPeerTransport
{
    public Action<Message>? OnSend { get; init; }

    /// <summary>Hears of forwarded batches; without it none can be brought on their way.</summary>
    public Action<ulong>? OnForward { get; init; }

    /// <summary>Hears what is said to a node of a batch that was not taken: node, incarnation, sequence, why.</summary>
    public Action<ulong, ulong, ulong, string?>? OnRefused { get; init; }

    /// <summary>What comes of a snapshot; without it none gets through.</summary>
    public Func<SnapshotOffer, SnapshotVerdict>? OnSnapshot { get; init; }

    public void Start(IPeerSink sink)
    {
    }

    public void SetCluster(ulong clusterId)
    {
    }

    public void SetPeers(IReadOnlyDictionary<ulong, string> addressById)
    {
    }

    public void Send(in Message message)
    {
        Assert.True(OnSend is not null, $"a message to {message.To}");
        OnSend(message);
    }

    public bool SendForward(ulong to, ulong term, ulong incarnation, ulong sequence, ReadOnlySpan<byte> payload)
    {
        OnForward?.Invoke(sequence);
        return OnForward is not null;
    }

    public void SendForwardRefused(ulong to, ulong incarnation, ulong sequence, byte reason, string? text) =>
        OnRefused?.Invoke(to, incarnation, sequence, text);

    public void Flush()
    {
    }

    public bool IsConnected(ulong peer) => false;

    public long QueuedBytes(ulong peer) => 0;

    public ValueTask<ControlReply> AskAsync(
        string address, ControlRequest request, CancellationToken cancellation, ulong expected = 0) =>
        throw new TransportException("nobody else");

    public ValueTask<SnapshotVerdict> SendSnapshotAsync(
        ulong peer, SnapshotOffer offer, ISnapshotSource source, CancellationToken cancellation) =>
        OnSnapshot is null ? throw new TransportException("nobody else") : ValueTask.FromResult(OnSnapshot(offer));

    public void Dispose()
    {
    }
}

/// <summary>A directory that is gone when the test is.</summary>
internal sealed class TempDirectory : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("kvnode-raft-").FullName;

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
