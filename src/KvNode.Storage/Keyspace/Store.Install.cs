using KvNode.Native;

namespace KvNode.Storage;

// Replacing the whole state by a snapshot: built aside from its bytes (Snapshots/StoreInstall.cs), swapped in here.
//
//   DIR/lmdb/data.mdb, lock.mdb           the state
//   DIR/lmdb.new/data.mdb, lock.mdb       the one being built
//
// On disk the swap is one rename, of data.mdb over data.mdb: before it the old state, after it the new one, never a mix.
// The lock files hold nothing that outlives a process; the new one is renamed too, because a later open of the path must
// not meet the lock file of the old environment, which may still be open for its readers. What a start finds in lmdb.new
// is half built, or was never swapped in, or empty: it is deleted.
public sealed partial class Store
{
    private const string AsideFolder = "lmdb.new";
    private const string DataFile = "data.mdb";
    private const string LockFile = "lock.mdb";

    private static readonly TimeSpan ReplacedWaitMax = TimeSpan.FromSeconds(10);

    // Environments that were replaced and may still have readers. Under _gate.
    private readonly List<Task> _replaced = [];

    // Under _gate.
    private bool _installing;

    /// <summary>The steps of an install's commit, in order; each is announced before it is done.</summary>
    internal enum InstallStep
    {
        RenameData,
        SyncDirectory,
        RenameLock,
        SwapLayers,
    }

    /// <summary>For tests: called before each step; what it throws happens there.</summary>
    internal Action<InstallStep>? InstallFailpoint { get; set; }

    /// <summary>One for each environment that was replaced lately; ends when its last view has and its files are
    /// closed.</summary>
    internal IReadOnlyList<Task> Replaced
    {
        get
        {
            lock (_gate)
            {
                return [.. _replaced];
            }
        }
    }

    internal long MapBytes => _options.MapBytes;

    /// <summary>Takes the right to the directory beside, until <see cref="EndAside"/>, and clears it.</summary>
    /// <exception cref="InvalidOperationException">It is taken.</exception>
    internal string BeginAside()
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_stopping, this);
            if (_installing)
            {
                throw new InvalidOperationException("another snapshot is being installed");
            }

            DeleteAside(_directory);
            _installing = true;
            return Path.Combine(_directory, AsideFolder);
        }
    }

    internal void EndAside()
    {
        lock (_gate)
        {
            _installing = false;
        }
    }

    /// <summary>Puts the finished state, open in the directory beside, in the place of the present one. No batch may be in
    /// progress.</summary>
    /// <exception cref="InvalidOperationException">The present state is already further. Nothing was changed.</exception>
    internal void Swap(InstallManifest manifest, long clockMs, DiskKeyspace disk)
    {
        PauseFlushing();
        var begun = false;
        try
        {
            lock (_batchLock)
            {
                if (manifest.Index < _published.Index)
                {
                    throw new InvalidOperationException(
                        $"the snapshot is of entry {manifest.Index}, the state already of {_published.Index}");
                }

                begun = true;
                SwapOnDisk(disk);
                Step(InstallStep.SwapLayers);
                SwapLayers(manifest, clockMs, disk);
            }
        }
        catch (Exception e) when (begun)
        {
            // The files may be the new ones: flushing goes on to pause for ever, for it would be lost with the old ones.
            _options.Fatal(e);
            throw;
        }
        catch
        {
            ResumeFlushing();
            throw;
        }

        ResumeFlushing();
    }

    private static void DeleteAside(string directory)
    {
        var aside = Path.Combine(directory, AsideFolder);
        if (Directory.Exists(aside))
        {
            Directory.Delete(aside, recursive: true);
        }
    }

    private void Step(InstallStep step) => InstallFailpoint?.Invoke(step);

    private void PauseFlushing()
    {
        lock (_gate)
        {
            _swapping = true;
            Monitor.PulseAll(_gate);
            while (_flushing)
            {
                _ = Monitor.Wait(_gate);
            }

            ObjectDisposedException.ThrowIf(_flushThreadEnded, this);
        }
    }

    private void ResumeFlushing()
    {
        lock (_gate)
        {
            _swapping = false;
            Monitor.PulseAll(_gate);
        }
    }

    private void SwapOnDisk(DiskKeyspace disk)
    {
        var aside = Path.Combine(_directory, AsideFolder);
        var target = Path.Combine(_directory, DiskFolder);
        Step(InstallStep.RenameData);
        File.Move(Path.Combine(aside, DataFile), Path.Combine(target, DataFile), overwrite: true);
        Step(InstallStep.SyncDirectory);
        Libc.SyncDirectory(target);
        Step(InstallStep.RenameLock);
        File.Move(Path.Combine(aside, LockFile), Path.Combine(target, LockFile), overwrite: true);
        disk.MovedTo(target);
    }

    // Readers see all of it or nothing: they look at the version before and after they take layers and state.
    private void SwapLayers(InstallManifest manifest, long clockMs, DiskKeyspace disk)
    {
        var state = new PublishedState(0, manifest.Index, manifest.Term, manifest.Count, clockMs);
        var engineState = manifest.EngineState.ToArray();
        var old = _layers;
        Volatile.Write(ref _publishedVersion, _publishedVersion + 1);
        Volatile.WriteBarrier();
        lock (_gate)
        {
            _layers = new Layers(new WriteBuffer(clearsBelow: false), Sealed: null, disk);
            _durable = _sealedState = new DurableState(state, engineState, manifest.Index, manifest.Term);
            _flushError = null;
            _ = _replaced.RemoveAll(static closed => closed.IsCompleted);
        }

        _published = state;
        Volatile.Write(ref _publishedVersion, _publishedVersion + 1);
        _publishedEngine.Set(engineState);
        old.Unpin();
        lock (_gate)
        {
            _replaced.Add(old.Disk.Retire());
        }
    }

    private void RefuseWhileInstalling()
    {
        lock (_gate)
        {
            if (_installing)
            {
                throw new InvalidOperationException("a snapshot is still being installed");
            }
        }
    }

    private void CloseReplaced()
    {
        if (!Task.WaitAll([.. Replaced], ReplacedWaitMax))
        {
            throw new InvalidOperationException("views of a state that was replaced are not disposed");
        }
    }
}
