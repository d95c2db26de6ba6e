using System.Net.Sockets;
using KvNode.Raft;
using Microsoft.AspNetCore.Connections;

namespace KvNode.Server.Hosting;

/// <summary>How the program ends when something in the world is wrong, and what it says then.</summary>
/// <param name="Message">For people; names what to do where that is known.</param>
internal sealed record Failure(int ExitCode, string Message)
{
    /// <summary>
    /// What this exception means for the person who started the program. Always something: what is not known to be the
    /// world's fault is a defect of ours, and its message carries the stack.
    /// </summary>
    public static Failure Of(Exception exception) => exception switch
    {
        _ when IsSyncFailure(exception) => new(ExitCodes.SyncFailed, exception.Message),
        DllNotFoundException => new(ExitCodes.LibraryMissing, MissingLibrary(exception.Message)),
        LogCorruptException or InvalidDataException => new(ExitCodes.BadData, exception.Message),
        FileNotFoundException or DirectoryNotFoundException => new(ExitCodes.NoInput, exception.Message),
        UnauthorizedAccessException => new(ExitCodes.NoPermission, exception.Message),
        AddressInUseException => new(ExitCodes.InUse, exception.Message),
        SocketException { SocketErrorCode: SocketError.AddressAlreadyInUse } => new(ExitCodes.InUse, exception.Message),
        SocketException { SocketErrorCode: SocketError.AccessDenied } => new(ExitCodes.NoPermission, exception.Message),
        SocketException => new(ExitCodes.System, exception.Message),
        IOException { InnerException: AddressInUseException or SocketException } => Of(exception.InnerException),
        IOException => new(ExitCodes.InputOutput, exception.Message),
        TypeInitializationException { InnerException: { } cause } => Of(cause),
        AggregateException { InnerExceptions: [var only] } => Of(only),
        _ => new(ExitCodes.Internal, $"this is a defect of kvnode, please report it: {exception}"),
    };

    /// <summary>Raft and Storage each carry the type, internal, from one source (neither references the other), so the
    /// name is what the two have in common.</summary>
    private static bool IsSyncFailure(Exception exception) => exception.GetType().Name == "SyncFailedException";

    private static string MissingLibrary(string message)
    {
        if (message.Contains("liblmdb", StringComparison.Ordinal))
        {
            return "liblmdb.so.0 is missing: install the Debian package liblmdb0 (apt-get install liblmdb0)";
        }

        return message.Contains("liblz4", StringComparison.Ordinal)
            ? "liblz4.so.1 is missing: install the Debian package liblz4-1 (apt-get install liblz4-1)"
            : message;
    }
}
