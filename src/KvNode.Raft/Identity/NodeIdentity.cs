using System.Buffers.Binary;
using System.Security.Cryptography;
using KvNode.Raft.Wal;

namespace KvNode.Raft.Identity;

/// <summary>
/// Who this node is, kept in the file <c>identity</c> of its data directory.
/// </summary>
/// <remarks>
/// A node that forgot who it is could vote twice in one term, so a damaged file is an error and never replaced. A missing
/// one means a new node, with an id that nobody knows yet. Each change is written to a file aside, synced and renamed, so
/// that a crash leaves the old file or the new one. Properties may be read from any thread; one thread changes. The
/// directory's lock is the host's business.
/// </remarks>
internal sealed class NodeIdentity
{
    /// <summary>The file's name.</summary>
    public const string FileName = "identity";

    private const string DraftName = FileName + ".draft";

    private readonly IDisk _disk;
    private volatile IdentityRecord _record;

    private NodeIdentity(IDisk disk, IdentityRecord record)
    {
        _disk = disk;
        _record = record;
    }

    /// <summary>Random, never 0. The same for as long as the directory lives.</summary>
    public ulong NodeId => _record.NodeId;

    /// <summary>0: not yet in a cluster.</summary>
    public ulong ClusterId => _record.ClusterId;

    /// <summary>How often this node has started, from 1: it tells its lives apart.</summary>
    public ulong Incarnation => _record.Incarnation;

    /// <summary>The cluster has removed this node. It must not take part again; to come back it starts empty.</summary>
    public bool IsRemoved => _record.IsRemoved;

    /// <summary>The node wants to be a voter and has not been one yet.</summary>
    public bool IsJoining => _record.IsJoining;

    /// <summary>The node has seen itself in the cluster's configuration.</summary>
    public bool IsMember => _record.IsMember;

    /// <summary>Whether a node has been started on this directory before.</summary>
    public static bool Exists(string directory) => File.Exists(Path.Combine(directory, FileName));

    /// <summary>
    /// Begins a new life of the node in this directory: makes who it is if there is nothing yet, and counts the
    /// incarnation on, durably, before it returns.
    /// </summary>
    /// <exception cref="InvalidDataException">The file is not one that this program wrote.</exception>
    /// <exception cref="IOException">The file cannot be read or written.</exception>
    public static NodeIdentity OpenOrCreate(string directory) =>
        OpenOrCreate(FileDisk.OpenOrCreate(directory), RandomId);

    /// <summary>As it was left by the last start; changes nothing. Null: there is none. For tools on a stopped node.</summary>
    /// <exception cref="InvalidDataException">The file is not one that this program wrote.</exception>
    public static NodeIdentity? TryRead(string directory)
    {
        if (!Exists(directory))
        {
            return null;
        }

        var disk = FileDisk.OpenExisting(directory);
        return new NodeIdentity(disk, Load(disk));
    }

    /// <param name="newId">Gives the id of a new node; not 0.</param>
    internal static NodeIdentity OpenOrCreate(IDisk disk, Func<ulong> newId)
    {
        // An earlier process may have been killed between the rename and its sync.
        disk.SyncDirectory();
        var record = Array.IndexOf(disk.List(), FileName) >= 0 ? Load(disk) : new IdentityRecord(newId(), 0, 0, false);
        Invariant.Check(record.NodeId != 0);
        Invariant.Check(record.Incarnation < ulong.MaxValue);
        var identity = new NodeIdentity(disk, record);
        identity.Save(record with { Incarnation = record.Incarnation + 1 });
        return identity;
    }

    /// <summary>The node belongs to this cluster from now on. No effect when it does already.</summary>
    /// <exception cref="InvalidOperationException">It belongs to another one.</exception>
    /// <exception cref="IOException">As before the call, but for a failed sync, after which the process must end.</exception>
    public void SetCluster(ulong id)
    {
        if (ClusterId != 0 && ClusterId != id)
        {
            throw new InvalidOperationException(
                $"this node belongs to cluster {ClusterId:x16} and cannot become a member of {id:x16}");
        }

        ReplaceCluster(id);
    }

    /// <summary>The same, whatever it belonged to: for a forced recovery, after which the old cluster must not know
    /// this node any more.</summary>
    /// <exception cref="IOException">As for <see cref="SetCluster"/>.</exception>
    public void ReplaceCluster(ulong id)
    {
        Invariant.Check(id != 0);
        if (ClusterId != id)
        {
            Save(_record with { ClusterId = id });
        }
    }

    /// <summary>Notes where the node is on its way into the cluster.</summary>
    /// <exception cref="IOException">As for <see cref="SetCluster"/>.</exception>
    public void Note(bool isJoining, bool isMember)
    {
        if (IsJoining != isJoining || IsMember != isMember)
        {
            Save(_record with { IsJoining = isJoining, IsMember = isMember });
        }
    }

    /// <summary>As a member of a cluster that begins with this node alone: for a forced recovery.</summary>
    /// <exception cref="IOException">As for <see cref="SetCluster"/>.</exception>
    public void BeginAnew(ulong cluster)
    {
        Invariant.Check(cluster != 0);
        Save(_record with { ClusterId = cluster, IsRemoved = false, IsJoining = false, IsMember = true });
    }

    /// <summary>Notes for good that the cluster has removed this node.</summary>
    /// <exception cref="IOException">As for <see cref="SetCluster"/>.</exception>
    public void MarkRemoved()
    {
        if (!IsRemoved)
        {
            Save(_record with { IsRemoved = true });
        }
    }

    private static IdentityRecord Load(IDisk disk)
    {
        using var file = disk.Open(FileName, readOnly: true);
        var bytes = new byte[IdentityRecord.Bytes + 1];
        var count = file.Read(0, bytes);
        return IdentityRecord.TryDecode(bytes.AsSpan(0, count), out var record, out var reason)
            ? record
            : throw new InvalidDataException(
                $"{Path.Combine(disk.Location, FileName)}: {reason}. This file says who the node is, and without it the "
                + "node must not vote. Put it back from a copy; or remove this node from its cluster, empty its "
                + "directory and let it join again");
    }

    private void Save(IdentityRecord record)
    {
        Span<byte> bytes = stackalloc byte[IdentityRecord.Bytes];
        record.Encode(bytes);
        using (var file = OpenDraft())
        {
            file.Write(0, bytes);
            file.SyncData();
        }

        _disk.Rename(DraftName, FileName);
        _disk.SyncDirectory();
        _record = record;
        KeepRoom(bytes);
    }

    private IDiskFile OpenDraft()
    {
        if (Array.IndexOf(_disk.List(), DraftName) < 0)
        {
            return _disk.Create(DraftName);
        }

        var draft = _disk.Open(DraftName);
        if (draft.Length <= IdentityRecord.Bytes)
        {
            return draft;
        }

        draft.Dispose();
        _disk.Delete(DraftName);
        return _disk.Create(DraftName);
    }

    /// <summary>A node whose disk is full must be able to start, and that writes this file: the next draft has its room
    /// already, that of the file just replaced.</summary>
    private void KeepRoom(ReadOnlySpan<byte> bytes)
    {
        try
        {
            using var draft = _disk.Create(DraftName);
            draft.Write(0, bytes);
        }
        catch (IOException)
        {
            // Then a start on a full disk fails, and says why.
        }
    }

    /// <summary>For a node or a cluster: random, never 0.</summary>
    public static ulong RandomId()
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        while (true)
        {
            RandomNumberGenerator.Fill(bytes);
            if (BinaryPrimitives.ReadUInt64LittleEndian(bytes) is var id and not 0)
            {
                return id;
            }
        }
    }
}
