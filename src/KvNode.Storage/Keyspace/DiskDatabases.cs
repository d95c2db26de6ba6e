using System.Text;
using KvNode.Storage.Lmdb;

namespace KvNode.Storage;

/// <summary>The handles of the named databases; good for every transaction of the environment they came from.</summary>
internal readonly struct DiskDatabases
{
    public required uint System { get; init; }
    public required uint Keys { get; init; }
    public required uint Buckets { get; init; }
    public required uint Collections { get; init; }
    public required uint Expiry { get; init; }

    /// <summary>Opens what is there, and creates it all when the environment is new and empty.</summary>
    /// <exception cref="DiskFormatException">Not ours, or a format this program does not know.</exception>
    public static DiskDatabases Open(LmdbEnvironment environment, string directory)
    {
        if (!TryOpenExisting(environment, directory, out var databases))
        {
            Create(environment);
            if (!TryOpenExisting(environment, directory, out databases))
            {
                throw new DiskFormatException($"'{directory}' lost its databases while they were created");
            }
        }

        return databases;
    }

    /// <summary>Opens without writing; false when the environment is empty.</summary>
    /// <exception cref="DiskFormatException">As for <see cref="Open"/>.</exception>
    public static bool TryOpenExisting(LmdbEnvironment environment, string directory, out DiskDatabases databases)
    {
        databases = default;
        using var transaction = environment.BeginRead();
        if (!transaction.TryOpenDatabase(Layout.SystemDatabase, create: false, out var system))
        {
            return transaction.Statistics(transaction.OpenMainDatabase()).Entries == 0 ? false : throw new DiskFormatException(
                $"'{directory}' holds an LMDB database that is not KvNode's; choose another directory");
        }

        CheckFormat(transaction, system, directory);
        databases = new DiskDatabases
        {
            System = system,
            Keys = OpenNamed(transaction, Layout.KeyDatabase, directory),
            Buckets = OpenNamed(transaction, Layout.BucketDatabase, directory),
            Collections = OpenNamed(transaction, Layout.CollectionDatabase, directory),
            Expiry = OpenNamed(transaction, Layout.ExpiryDatabase, directory),
        };

        // Committing a read transaction is what makes its handles outlive it.
        LmdbException.ThrowIfError(transaction.Commit(), "open of the databases");
        return true;
    }

    private static void CheckFormat(LmdbTransaction transaction, uint system, string directory)
    {
        if (!transaction.TryGet(system, Layout.FormatKey, out var record) ||
            !Layout.TryReadFormat(record, out var version))
        {
            throw new DiskFormatException($"'{directory}' has no readable format record; it is not KvNode's or is damaged");
        }

        if (version is not (Layout.FormatVersionPlain or Layout.FormatVersionCluster))
        {
            throw new DiskFormatException($"'{directory}' is in data format {version}; this program knows only formats " +
                $"{Layout.FormatVersionPlain} and {Layout.FormatVersionCluster}. Use the program that wrote it, or move its content by a snapshot");
        }
    }

    private static uint OpenNamed(LmdbTransaction transaction, ReadOnlySpan<byte> name, string directory) =>
        transaction.TryOpenDatabase(name, create: false, out var database) ? database : throw new DiskFormatException(
            $"'{directory}' lacks the database '{Encoding.ASCII.GetString(name)}'; it is damaged");

    private static void Create(LmdbEnvironment environment)
    {
        using var transaction = environment.BeginWrite();
        _ = transaction.TryOpenDatabase(Layout.SystemDatabase, create: true, out var system);
        _ = transaction.TryOpenDatabase(Layout.KeyDatabase, create: true, out _);
        _ = transaction.TryOpenDatabase(Layout.BucketDatabase, create: true, out _);
        _ = transaction.TryOpenDatabase(Layout.CollectionDatabase, create: true, out _);
        _ = transaction.TryOpenDatabase(Layout.ExpiryDatabase, create: true, out _);
        Span<byte> record = stackalloc byte[Layout.StateBytes];
        Layout.WriteFormat(record, Layout.FormatVersionPlain);
        LmdbException.ThrowIfError(
            transaction.Put(system, Layout.FormatKey, record[..Layout.FormatBytes]), "write of the format record");
        Layout.WriteState(record, default, Layout.FirstBucketId);
        LmdbException.ThrowIfError(transaction.Put(system, Layout.StateKey, record), "write of the state record");
        LmdbException.ThrowIfError(transaction.Commit(), "creation of the databases");
    }
}
