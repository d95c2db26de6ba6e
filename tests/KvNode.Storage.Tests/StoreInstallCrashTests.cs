using KvNode.Storage.Snapshots;
using Xunit;
using static KvNode.Storage.Tests.NamedState;

namespace KvNode.Storage.Tests;

/// <summary>
/// A crash at any step of an install leaves the old state or the new one, whole, with its own engine state. State 2 is the
/// old one on disk (3 only in the write buffer), 9 the installed one.
/// </summary>
public sealed class StoreInstallCrashTests : IDisposable
{
    private readonly DiskTestDirectory _directory = new();

    private string Data => Path.Combine(_directory.Path, "data");

    public void Dispose() => _directory.Dispose();

    [Fact]
    public void AKillAtAnyStepLeavesOneStateWhole()
    {
        var images = RecordImages();
        Assert.Equal(
            [
                "building", "RenameData", "SyncDirectory", "RenameLock", "SwapLayers", "swapped",
            ],
            images.Keys);
        foreach (var (step, image) in images)
        {
            var isNew = step is not ("building" or "RenameData");
            Assert.Equal(isNew ? (9ul, 9ul) : (2ul, 0ul), Reopen(image));

            // And the node goes on from there, install included.
            using (var store = Open(image))
            {
                Apply(store, 10);
                Install(store, 11);
            }

            Assert.Equal((11ul, 11ul), Reopen(image));
        }
    }

    /// <summary>Of what was not synced when the power went, any part may be on the disk.</summary>
    [Fact]
    public void PowerLostBetweenTheRenamesLeavesOneStateWhole()
    {
        var images = RecordImages();
        var before = images["RenameData"];
        var after = images["swapped"];
        var number = 0;
        foreach (var dataIsNew in (bool[])[false, true])
        {
            foreach (var lockFile in (string?[])["old", "new", "torn", null])
            {
                foreach (var asideData in (bool[])[false, true])
                {
                    foreach (var asideLock in (bool[])[false, true])
                    {
                        var image = Path.Combine(_directory.Path, $"lost{number++}");
                        CopyDirectory(before, image);
                        var (target, aside) = (Path.Combine(image, "lmdb"), Path.Combine(image, "lmdb.new"));
                        if (dataIsNew)
                        {
                            System.IO.File.Copy(Path.Combine(after, "lmdb", "data.mdb"), Path.Combine(target, "data.mdb"), overwrite: true);
                        }

                        PutLockFile(lockFile, Path.Combine(target, "lock.mdb"), Path.Combine(after, "lmdb", "lock.mdb"));
                        Keep(asideData, Path.Combine(aside, "data.mdb"));
                        Keep(asideLock, Path.Combine(aside, "lock.mdb"));
                        Assert.Equal(dataIsNew ? (9ul, 9ul) : (2ul, 0ul), Reopen(image));
                    }
                }
            }
        }
    }

    [Fact]
    public void AnErrorAtAnyStepOfTheSwapIsFatalAndTheNextStartFindsOneState()
    {
        foreach (var step in Enum.GetValues<Store.InstallStep>())
        {
            var data = Path.Combine(_directory.Path, step.ToString());
            var fatal = new List<Exception>();
            var store = Store.Open(data, new StoreOptions
            {
                FlushInterval = TimeSpan.FromHours(1),
                Fatal = fatal.Add,
            });
            Apply(store, 2);
            store.Checkpoint();
            Apply(store, 3);
            store.InstallFailpoint = at =>
            {
                if (at == step)
                {
                    throw new IOException("no more");
                }
            };
            using (var install = StoreInstall.Begin(store, Manifest(9)))
            {
                Feed(install, File(9));
                install.Complete();
                _ = Assert.Throws<IOException>(install.Commit);
                Assert.Equal("no more", Assert.Single(fatal).Message);
            }

            // Not even an orderly end may flush the old state's rest: it would go into files that have lost their name.
            store.Dispose();
            var expected = step == Store.InstallStep.RenameData ? (2ul, 0ul) : (9ul, 9ul);
            Assert.Equal(expected, Reopen(data));
        }
    }

    [Fact]
    public void EngineStateIsThatOfTheAppliedIndexWhereverAKillComes()
    {
        // Between any two steps of the store's life: batches, flushes, installs.
        var number = 0;
        using var store = Open(Data);
        for (var n = 1ul; n <= 24; n++)
        {
            if (n % 6 == 0)
            {
                using var install = StoreInstall.Begin(store, Manifest(n));
                install.CommitFailpoint = () => CheckImage(number++, expected: [n - 1, n - 2, n - 3]);
                Feed(install, File(n));
                install.Commit();
                CheckImage(number++, expected: [n]);
            }
            else
            {
                Apply(store, n);
                if (n % 2 == 0)
                {
                    store.Checkpoint();
                    CheckImage(number++, expected: [n]);
                }
                else
                {
                    CheckImage(number++, expected: n == 1 ? [0] : [n - 1]);
                }
            }
        }
    }

    [Fact]
    public async Task WhatIsPublishedDuringAFlushIsNotInIt()
    {
        using var store = Open(Data);
        using var begun = new ManualResetEventSlim();
        using var goOn = new ManualResetEventSlim();
        store.FlushFailpoint = () =>
        {
            begun.Set();
            goOn.Wait();
        };
        Apply(store, 1);
        var checkpoint = Task.Run(store.Checkpoint, TestContext.Current.CancellationToken);
        begun.Wait(TestContext.Current.CancellationToken);
        Apply(store, 2);
        goOn.Set();
        await checkpoint;
        CheckImage(0, expected: [1]);
        store.Checkpoint();
        CheckImage(1, expected: [2]);
    }

    private void CheckImage(int number, ulong[] expected)
    {
        var image = Path.Combine(_directory.Path, $"image{number}");
        CopyDirectory(Data, image);
        Assert.Contains(Reopen(image).State, expected);
        Directory.Delete(image, recursive: true);
    }

    // What the disk holds when each step begins, by step.
    private Dictionary<string, string> RecordImages()
    {
        var images = new Dictionary<string, string>();
        using var store = Open(Data);
        Apply(store, 2);
        store.Checkpoint();
        Apply(store, 3);
        store.InstallFailpoint = step => Take(step.ToString());
        using var install = StoreInstall.Begin(store, Manifest(9));
        install.CommitFailpoint = () => Take("building");
        Feed(install, File(9));
        install.Commit();
        Take("swapped");
        return images;

        void Take(string step)
        {
            var image = Path.Combine(_directory.Path, step);
            CopyDirectory(Data, image);
            images.Add(step, image);
        }
    }

    private static void PutLockFile(string? kind, string target, string newer)
    {
        switch (kind)
        {
            case "new":
                System.IO.File.Copy(newer, target, overwrite: true);
                break;
            case "torn":
                System.IO.File.WriteAllBytes(target, System.IO.File.ReadAllBytes(newer).AsSpan(0, 4096).ToArray());
                break;
            case null:
                System.IO.File.Delete(target);
                break;
        }
    }

    private static void Keep(bool keep, string path)
    {
        if (!keep)
        {
            System.IO.File.Delete(path);
        }
    }
}
