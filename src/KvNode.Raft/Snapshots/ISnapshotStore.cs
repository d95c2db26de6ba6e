namespace KvNode.Raft.Snapshots;

/// <summary>Where the engine keeps backups of the state machine. Used from one thread at a time.</summary>
public interface ISnapshotStore
{
    /// <summary>Position of the newest complete snapshot; index 0 if there is none.</summary>
    EntryId Latest { get; }

    /// <summary>Writes the whole snapshot, durably.</summary>
    /// <returns>Its id.</returns>
    /// <exception cref="IOException">It could not; nothing that looks like a snapshot is left.</exception>
    string Save(ISnapshotReader reader);
}
