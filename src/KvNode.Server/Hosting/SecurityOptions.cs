using System.CommandLine;
using System.Security.Cryptography;
using System.Text;
using KvNode.Raft.Transport;

namespace KvNode.Server.Hosting;

/// <summary>How nodes prove to each other that they belong, and whether the port serves TLS. Everything empty unless set.</summary>
internal sealed record SecurityOptions
{
    public static SecurityOptions None { get; } = new();

    /// <summary><c>--cluster-secret</c>.</summary>
    public string Secret { get; init; } = "";

    /// <summary><c>--cluster-secret-file</c>.</summary>
    public string SecretFile { get; init; } = "";

    /// <summary><c>--tls-cert</c>.</summary>
    public string CertificateFile { get; init; } = "";

    /// <summary><c>--tls-key</c>.</summary>
    public string KeyFile { get; init; } = "";

    /// <summary><c>--tls-ca</c>.</summary>
    public string AuthorityFile { get; init; } = "";

    private bool HasTls => CertificateFile.Length > 0;

    /// <summary>What is wrong between the settings, in words for people; null when all is well. Reads no file.</summary>
    public string? Problem()
    {
        if (Secret.Length > 0 && SecretFile.Length > 0)
        {
            return "--cluster-secret and --cluster-secret-file: only one of them";
        }

        if (Secret.Length > 0 && TooShort(Encoding.UTF8.GetByteCount(Secret)) is { } problem)
        {
            return "--cluster-secret " + problem;
        }

        return HasTls == KeyFile.Length > 0 && HasTls == AuthorityFile.Length > 0
            ? null
            : "--tls-cert, --tls-key and --tls-ca need each other";
    }

    /// <summary>Reads the files.</summary>
    /// <exception cref="SecurityFileException">One of them is not what it should be.</exception>
    /// <exception cref="IOException">One of them cannot be read; the message names its flag.</exception>
    /// <exception cref="UnauthorizedAccessException">This user may not read one of them; the message names its flag.</exception>
    public TransportSecurity Load()
    {
        CheckReadable("--cluster-secret-file", SecretFile);
        CheckReadable("--tls-cert", CertificateFile);
        CheckReadable("--tls-key", KeyFile);
        CheckReadable("--tls-ca", AuthorityFile);
        return new TransportSecurity
        {
            Secret = SecretFile.Length > 0 ? ReadSecret() : Encoding.UTF8.GetBytes(Secret),
            Tls = HasTls ? ReadTls() : null,
        };
    }

    private static void CheckReadable(string flag, string file)
    {
        if (file.Length == 0)
        {
            return;
        }

        try
        {
            File.OpenRead(file).Dispose();
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new FileNotFoundException($"{flag}: there is no file '{file}'", file, e);
        }
        catch (UnauthorizedAccessException e)
        {
            throw new UnauthorizedAccessException($"{flag}: {e.Message}", e);
        }
        catch (IOException e)
        {
            throw new IOException($"{flag}: {e.Message}", e);
        }
    }

    private static string? TooShort(int bytes) => bytes < TransportSecurity.SecretBytesMin
        ? $"needs at least {TransportSecurity.SecretBytesMin} bytes, best random ones: openssl rand -hex 32"
        : null;

    private byte[] ReadSecret()
    {
        // An editor's or echo's line end at the end is not part of it.
        var secret = File.ReadAllBytes(SecretFile).AsSpan().TrimEnd("\r\n"u8).ToArray();
        return TooShort(secret.Length) is { } problem
            ? throw new SecurityFileException($"the secret in '{SecretFile}' {problem}")
            : secret;
    }

    private TlsMaterial ReadTls()
    {
        try
        {
            return TlsMaterial.Load(CertificateFile, KeyFile, AuthorityFile);
        }
        catch (CryptographicException e)
        {
            throw new SecurityFileException(
                $"--tls-cert '{CertificateFile}', --tls-key '{KeyFile}', --tls-ca '{AuthorityFile}': {e.Message}", e);
        }
    }
}

/// <summary>A file with a secret, a certificate or a key is not what it should be.</summary>
internal sealed class SecurityFileException(string message, Exception? cause = null) : Exception(message, cause);

/// <summary>The rows of the command line that fill <see cref="SecurityOptions"/>.</summary>
internal sealed class SecuritySettings
{
    private readonly Setting<string> _secret;
    private readonly Setting<string> _secretFile;
    private readonly Setting<string> _certificate;
    private readonly Setting<string> _key;
    private readonly Setting<string> _authority;

    /// <param name="add">Adds a row: flag, value, meaning.</param>
    public SecuritySettings(Func<string, string, string, ValueParser<string>, Setting<string>> add)
    {
        _secret = add("--cluster-secret", "SECRET",
            "What all nodes of a cluster know and nobody else. On a command line others can see it: better the variable or a file.",
            NotEmpty);
        _secretFile = add("--cluster-secret-file", "FILE",
            "File that holds the cluster's secret. Without a secret and TLS nodes deal with nodes on the same machine only.",
            NotEmpty);
        _certificate = add("--tls-cert", "FILE",
            "This node's certificate, PEM; then the port serves TLS, to clients too.", NotEmpty);
        _key = add("--tls-key", "FILE",
            "Private key of the certificate, PEM.", NotEmpty);
        _authority = add("--tls-ca", "FILE",
            "Certificates of the authorities that sign those of all nodes, PEM. Clients may show none.", NotEmpty);
    }

    /// <summary>A script's variable that is not set must not leave a node open.</summary>
    private static string? NotEmpty(string text, out string value)
    {
        value = text;
        return text.Length == 0 ? "it is empty; leave the flag out to go without" : null;
    }

    public SecurityOptions Read(ParseResult result) => new()
    {
        Secret = result.GetValue(_secret) ?? "",
        SecretFile = result.GetValue(_secretFile) ?? "",
        CertificateFile = result.GetValue(_certificate) ?? "",
        KeyFile = result.GetValue(_key) ?? "",
        AuthorityFile = result.GetValue(_authority) ?? "",
    };
}
