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
internal sealed class SnapshotTransfers(
    string directory,
    IReplicatedStateMachine machine,
    Mailbox mailbox,
    ApplyStage apply,
    IPeerTransport links,
    Action<string> note,
    Action<Exception> fail) : ISnapshotTransfers, IDisposable
{
    private const string OutgoingPrefix = "outgoing-";
    private const string IncomingPrefix = "incoming-";
    private const int CopyBytes = 1 << 20;

    private readonly Lock _gate = new();

    // By peer, the position of what it is sent, or one before it.
    private readonly Dictionary<ulong, ulong> _sending = [];
    private IncomingSnapshot? _incoming;
    private Action? _install;
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
            if (!_sending.TryAdd(peer, machine.Durable.Index))
            {
                return;
            }
        }

        _ = Task.Run(() => SendAsync(peer, term));
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

    /// <inheritdoc/>
    public Action TakeInstall()
    {
        var install = _install;
        Invariant.Check(install is not null);
        _install = null;
        return install;
    }

    /// <summary>A peer offers a snapshot. Null: not wanted now. I/O thread.</summary>
    public ISnapshotReceiver? Offer(ulong from, SnapshotOffer offer)
    {
        lock (_gate)
        {
            if (_incoming is { } present)
            {
                if (present.Offer.Id == offer.Id && present.TryReopen())
                {
                    return present;
                }

                if (!present.TryGiveUp())
                {
                    return null;
                }
            }

            var path = Path.Combine(directory, $"{IncomingPrefix}{offer.Id:x}");
            return _incoming = new IncomingSnapshot(this, from, offer, path);
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
            ok = await links.SendSnapshotAsync(peer, offer, source, CancellationToken.None) == SnapshotVerdict.Installed;
        }
        catch (IOException)
        {
            // No way to the peer, or no room for the spool: the core asks again when the peer answers.
        }
        catch (Exception e)
        {
            fail(e);
            return;
        }

        File.Delete(path);
        note($"node {peer:x16} has {(ok ? "" : "not ")}taken over the snapshot of entry {position.Index}");
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

    private (SnapshotOffer Offer, SnapshotMeta Meta) Spool(string path, ulong term)
    {
        using var reader = machine.OpenSnapshot();
        using var file = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.Read, bufferSize: 0);
        var buffer = new byte[CopyBytes];
        var crc = Crc64.Start;
        int count;
        while ((count = reader.Read(buffer)) > 0)
        {
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

    private async Task<SnapshotVerdict> InstallAsync(IncomingSnapshot incoming)
    {
        var offer = incoming.Offer;
        var bytes = offer.Meta;
        if (bytes.Length < 16)
        {
            return SnapshotVerdict.Damaged;
        }

        EngineState state;
        try
        {
            state = EngineState.Decode(bytes.Span[16..]);
        }
        catch (FormatException)
        {
            return SnapshotVerdict.Damaged;
        }

        var members = new List<string>(state.Membership.Addresses.Values);
        var meta = new SnapshotMeta(
            offer.Position, BinaryPrimitives.ReadInt64LittleEndian(bytes.Span), members, bytes[16..]);
        var writer = machine.CreateRestore(meta);
        try
        {
            if (Feed(incoming.Path, writer) != BinaryPrimitives.ReadUInt64LittleEndian(bytes.Span[8..]))
            {
                return SnapshotVerdict.Damaged;
            }

            writer.Complete();
            return await OfferToCoreAsync(incoming, meta, state, writer) ? SnapshotVerdict.Installed : SnapshotVerdict.Refused;
        }
        finally
        {
            writer.Dispose();
        }
    }

    /// <summary>True once the state and the log have taken it over; false when it is not needed any more.</summary>
    private async Task<bool> OfferToCoreAsync(
        IncomingSnapshot incoming, SnapshotMeta meta, EngineState state, ISnapshotWriter writer)
    {
        var done = new TaskCompletionSource<bool>(TaskCreationOptions.RunContinuationsAsynchronously);
        mailbox.Post(() =>
        {
            _install = () =>
            {
                apply.Replace(meta.Position.Index, state, writer.Commit);
                note($"took over a snapshot of entry {meta.Position.Index} from node {incoming.From:x16}");
                done.SetResult(true);
            };
            if (!_core!.OnSnapshotReceived(incoming.From, incoming.Offer.Term, meta.Position, state.Membership))
            {
                _install = null;
                done.SetResult(false);
            }

            _driver!.Drain();
        });
        return await done.Task;
    }

    /// <returns>The checksum of what was fed, as <see cref="EncodeMeta"/> has it.</returns>
    private static ulong Feed(string path, ISnapshotWriter writer)
    {
        using var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        var buffer = new byte[CopyBytes];
        var crc = Crc64.Start;
        int count;
        while ((count = file.Read(buffer)) > 0)
        {
            crc = Crc64.Append(crc, buffer.AsSpan(0, count));
            writer.Write(buffer.AsSpan(0, count));
        }

        return crc;
    }

    /// <summary>Gives up what is half received. No transfer may begin any more.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _ = _incoming?.TryGiveUp();
        }
    }

    private void Forget(IncomingSnapshot incoming)
    {
        lock (_gate)
        {
            if (ReferenceEquals(_incoming, incoming))
            {
                _incoming = null;
            }
        }

        File.Delete(incoming.Path);
    }

    private sealed class FileSource(string path) : ISnapshotSource, IDisposable
    {
        private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file = File.OpenHandle(path);

        public ValueTask<int> ReadAsync(long offset, Memory<byte> buffer, CancellationToken cancellation) =>
            RandomAccess.ReadAsync(_file, buffer, offset, cancellation);

        public void Dispose() => _file.Dispose();
    }

    /// <summary>One snapshot on its way in; the file outlives a connection, so that a transfer can go on.</summary>
    private sealed class IncomingSnapshot(SnapshotTransfers owner, ulong from, SnapshotOffer offer, string path) : ISnapshotReceiver
    {
        private readonly Microsoft.Win32.SafeHandles.SafeFileHandle _file =
            File.OpenHandle(path, FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite, FileOptions.None);

        // 0: a connection is writing; 1: none is; 2: complete or given up.
        private int _state;
        private long _have;

        public ulong From => from;

        public SnapshotOffer Offer => offer;

        public string Path => path;

        public long HaveBytes => Interlocked.Read(ref _have);

        public bool TryReopen() => Interlocked.CompareExchange(ref _state, 0, 1) == 1;

        public bool TryGiveUp()
        {
            if (Interlocked.CompareExchange(ref _state, 2, 1) != 1)
            {
                return false;
            }

            _file.Dispose();
            File.Delete(path);
            return true;
        }

        public async ValueTask WriteAsync(long offset, ReadOnlyMemory<byte> chunk, CancellationToken cancellation)
        {
            await RandomAccess.WriteAsync(_file, chunk, offset, cancellation);
            _ = Interlocked.Exchange(ref _have, offset + chunk.Length);
        }

        public async ValueTask<SnapshotVerdict> CompleteAsync(CancellationToken cancellation)
        {
            _ = Interlocked.Exchange(ref _state, 2);
            try
            {
                return await Task.Run(() => owner.InstallAsync(this), CancellationToken.None);
            }
            catch (Native.SyncFailedException e)
            {
                owner.Fail(e);
                throw;
            }
            catch (IOException)
            {
                return SnapshotVerdict.Damaged;
            }
            finally
            {
                _file.Dispose();
                owner.Forget(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            _ = Interlocked.CompareExchange(ref _state, 1, 0);
            return ValueTask.CompletedTask;
        }
    }

    private void Fail(Exception e) => fail(e);
}
