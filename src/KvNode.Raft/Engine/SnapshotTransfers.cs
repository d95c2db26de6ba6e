using System.Buffers.Binary;
using System.Security.Cryptography;
using KvNode.Raft.Core;
using KvNode.Raft.Snapshots;
using KvNode.Raft.Transport;

namespace KvNode.Raft.Engine;

/// <summary>
/// Snapshots between nodes: spooled to a file, sent from there in chunks; received into a file, checked, built into a state
/// beside the present one, installed when the core says so. Memory stays the same whatever the size.
/// </summary>
internal sealed partial class SnapshotTransfers(
    string directory,
    IReplicatedStateMachine machine,
    Mailbox mailbox,
    ApplyStage apply,
    IPeerTransport links,
    Action<string> note,
    Action<Exception> fail,
    TimeProvider time) : ISnapshotTransfers, IAsyncDisposable
{
    private const string OutgoingPrefix = "outgoing-";
    private const string IncomingPrefix = "incoming-";
    private const int CopyBytes = 1 << 20;

    /// <summary>Wait after a transfer that came to nothing, doubled each time: it costs a copy of the state.</summary>
    private const int BackOffMilliseconds = 100;

    private const int BackOffMillisecondsMax = 2000;

    /// <summary>One copy is offered so often; then it is old, and a new one is made.</summary>
    private const int OffersMax = 10;

    private readonly Lock _gate = new();

    // By peer, the position of what it is sent, or one before it.
    private readonly Dictionary<ulong, ulong> _sending = [];

    // By peer, attempts in a row that came to nothing.
    private readonly Dictionary<ulong, int> _fruitless = [];
    private readonly CancellationTokenSource _stopping = new();

    // All of it that is under way; under the gate.
    private Task _work = Task.CompletedTask;
    private bool _isStopped;
    private IncomingSnapshot? _incoming;
    private RaftCore? _core;
    private RaftDriver? _driver;

    /// <summary>Before the first transfer; removes what an earlier life left behind.</summary>
    public void Attach(RaftDriver driver, RaftCore core)
    {
        (_driver, _core) = (driver, core);
        if (!Directory.Exists(directory))
        {
            return;
        }

        foreach (var file in Directory.EnumerateFiles(directory))
        {
            var name = Path.GetFileName(file);
            if (name.StartsWith(OutgoingPrefix, StringComparison.Ordinal) || name.StartsWith(IncomingPrefix, StringComparison.Ordinal))
            {
                File.Delete(file);
            }
        }
    }

    /// <inheritdoc/>
    public void Send(ulong peer, ulong term)
    {
        lock (_gate)
        {
            // The snapshot is opened later, and so at no earlier position.
            if (!_isStopped && _sending.TryAdd(peer, machine.Durable.Index))
            {
                _ = Begin(Task.Run(() => SendAsync(peer, term)));
            }
        }
    }

    /// <inheritdoc/>
    public ulong KeepAfter
    {
        get
        {
            lock (_gate)
            {
                var lowest = ulong.MaxValue;
                foreach (var (_, index) in _sending)
                {
                    lowest = Math.Min(lowest, index);
                }

                return lowest;
            }
        }
    }

    private async Task SendAsync(ulong peer, ulong term)
    {
        var position = default(EntryId);
        var ok = false;
        var path = Path.Combine(directory, $"{OutgoingPrefix}{peer:x}");
        try
        {
            var (offer, meta) = Spool(path, term);
            position = meta.Position;
            lock (_gate)
            {
                _sending[peer] = position.Index;
            }

            note($"node {peer:x16} is behind the log: it is sent a snapshot of entry {position.Index}, {offer.SizeBytes} bytes");
            using var source = new FileSource(path);
            ok = await DeliverAsync(peer, offer, source);
        }
        catch (IOException)
        {
            // No way to the peer, or no room for the spool: the core asks again when the peer answers.
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            File.Delete(path);
            return;
        }
        catch (OperationCanceledException)
        {
            // The peer was silent for too long.
        }
        catch (Exception e)
        {
            fail(e);
            return;
        }

        File.Delete(path);
        note($"node {peer:x16} has {(ok ? "" : "not ")}taken over the snapshot of entry {position.Index}");
        await PauseAsync(peer, ok).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        mailbox.Post(() =>
        {
            // At once: what the log is kept for is in one of the two at any time.
            _core!.ReportSnapshot(peer, position, ok);
            lock (_gate)
            {
                _ = _sending.Remove(peer);
            }
        });
    }

    /// <summary>Offers it, again and again while the peer refuses it unseen, for it is busy with another.</summary>
    private async Task<bool> DeliverAsync(ulong peer, SnapshotOffer offer, FileSource source)
    {
        for (var offers = 1; ; offers++)
        {
            var verdict = await links.SendSnapshotAsync(peer, offer, source, _stopping.Token);
            if (verdict != SnapshotVerdict.Refused || source.IsRead || offers == OffersMax)
            {
                return verdict == SnapshotVerdict.Installed;
            }

            await PauseAsync(peer, ok: false);
            if (!IsWanted(peer, offer))
            {
                return false;
            }
        }
    }

    private async Task PauseAsync(ulong peer, bool ok)
    {
        int attempts;
        lock (_gate)
        {
            if (ok)
            {
                _ = _fruitless.Remove(peer);
                return;
            }

            attempts = _fruitless.GetValueOrDefault(peer);
            _fruitless[peer] = attempts + 1;
        }

        var wait = Math.Min((long)BackOffMilliseconds << Math.Min(attempts, 10), BackOffMillisecondsMax);
        await Task.Delay(TimeSpan.FromMilliseconds(wait), time, _stopping.Token);
    }

    /// <summary>This node leads as it did when it made the copy, and the peer still waits for one no newer.</summary>
    private bool IsWanted(ulong peer, SnapshotOffer offer)
    {
        if (_driver?.View is not { Role: RaftRole.Leader } view || view.Term != offer.Term)
        {
            return false;
        }

        foreach (var other in view.Peers)
        {
            if (other.Id == peer)
            {
                return other.State == PeerState.Snapshot && other.PendingSnapshot <= offer.Position.Index;
            }
        }

        return false;
    }

    private (SnapshotOffer Offer, SnapshotMeta Meta) Spool(string path, ulong term)
    {
        using var reader = machine.OpenSnapshot();
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
        var buffer = new byte[CopyBytes];
        var crc = Crc64.Start;
        int count;
        while ((count = reader.Read(buffer)) > 0)
        {
            _stopping.Token.ThrowIfCancellationRequested();
            crc = Crc64.Append(crc, buffer.AsSpan(0, count));
            file.Write(buffer, 0, count);
        }

        var meta = reader.Meta;
        var id = BinaryPrimitives.ReadUInt128LittleEndian(RandomNumberGenerator.GetBytes(16));
        return (new SnapshotOffer(meta.Position, term, id, file.Length, EncodeMeta(meta, crc)), meta);
    }

    // 0 i64 keys   8 u64 CRC-64 of the content (without the final inversion)   16 engine state
    private static byte[] EncodeMeta(SnapshotMeta meta, ulong crc)
    {
        var bytes = new byte[16 + meta.EngineState.Length];
        BinaryPrimitives.WriteInt64LittleEndian(bytes, meta.Count);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(8), crc);
        meta.EngineState.Span.CopyTo(bytes.AsSpan(16));
        return bytes;
    }

    /// <summary>Gives up what is half sent or received, and waits until nothing of it touches the state machine. No transfer begins
    /// any more. After the last turn, and after the last write to the log.</summary>
    public async ValueTask DisposeAsync()
    {
        Task work;
        lock (_gate)
        {
            if (_isStopped)
            {
                return;
            }

            _isStopped = true;
            _ = _incoming?.TryDisplace();
            work = _work;
        }

        await _stopping.CancelAsync();
        await work.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _stopping.Dispose();
    }

    /// <summary>Under the gate, and not stopped.</summary>
    private T Begin<T>(T work)
        where T : Task
    {
        _work = Task.WhenAll(_work, work);
        return work;
    }

    private sealed class FileSource(string path) : ISnapshotSource, IDisposable
    {
        private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file = File.OpenHandle(path);

        /// <summary>A peer has taken it up, so far as a connection went.</summary>
        public bool IsRead { get; private set; }

        public ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellation)
        {
            IsRead = true;
            return RandomAccess.ReadAsync(_file, buffer, offset, cancellation);
        }

        public void Dispose() => _file.Dispose();
    }
}
